//! What the hot path alone does: it tells pending checksums by what they hold, and reads the clock once per tick.

use std::time::{Duration, Instant};

use sluice_gateway_ebpf::maps::Activity;

use crate::{
    build::{Tcp, read, tcp, udp},
    rig::{Context, Net, REDIRECT, Rig, VIP_PORT, clock},
    udp::complete_supported,
};

both_hooks!(a_checksum_may_look_like_a_pending_one, the_clock_goes_on);

/// The one's complement sum of big-endian words (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let words =
        parts.iter().flat_map(|part| part.chunks(2)).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    words.fold(0, add)
}

fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// A payload of two bytes that makes the transport checksum equal to the sum of the pseudo-header, which is what the
/// field holds while the checksum is still to be filled in. `build` makes the frame, whose checksum is at `at`.
pub fn lookalike<N: Net>(protocol: u8, length: u8, at: usize, build: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (source, destination) = (N::CLIENT, N::VIP);
    let pseudo =
        sum(&[bytemuck::bytes_of(&source), bytemuck::bytes_of(&destination), &[0, protocol], &[0, length]]);
    let field = |frame: &[u8]| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let frame = build(&add(!pseudo, field(&build(&[0, 0]))).to_be_bytes());
    assert_eq!(field(&frame), pseudo, "not what this test is about");
    frame
}

fn a_checksum_may_look_like_a_pending_one<N: Net>() {
    let transport = 14 + N::HEADER as usize;
    let segment = lookalike::<N>(6, 22, transport + 16, |payload| {
        tcp::<N>(N::CLIENT, N::VIP, &Tcp { payload, ..Tcp::default() })
    });
    let datagram = lookalike::<N>(17, 10, transport + 6, |payload| {
        udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), payload)
    });
    let rig = Rig::<N>::new();
    rig.establish(40000);
    rig.forward(&datagram);
    for checksum_complete in [false, complete_supported()] {
        for frame in [&segment, &datagram] {
            let outcome = rig.run("forward", frame, Context { checksum_complete, ..Context::default() });
            assert_eq!(outcome.verdict, REDIRECT);
            read(&outcome.frame);
        }
    }
}

fn the_clock_goes_on<N: Net>() {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    let frame = tcp::<N>(N::CLIENT, N::VIP, &Tcp::default());
    let began = clock();
    let idle = || {
        assert_eq!(rig.forward(&frame).verdict, REDIRECT);
        Activity(rig.flow().1.activity).idle(clock())
    };
    assert!(idle() <= 1, "the programs' clock is late");
    let deadline = Instant::now() + Duration::from_secs(10);
    while clock() < began + 2 {
        assert!(Instant::now() < deadline, "the clock stands still");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(idle() <= 1, "the programs' clock stands still");
}
