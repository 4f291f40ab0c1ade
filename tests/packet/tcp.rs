//! A TCP connection from the first packet to the last.

use sluice_gateway_ebpf::{conntrack::State, verdict::Drop};

use crate::{
    build::{Tcp, read, tcp},
    rig::{Net, PASS, REDIRECT, Rig, SHOT, TARGET_PORT, VIP_PORT},
};

both_hooks!(handshake_and_close, no_flow_is_dropped, not_ours_passes_untouched);

const SERVER_SEQUENCE: u32 = 0xffff_fffe;

fn from_client<N: Net>(flags: &str, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
    tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags, acknowledgement, payload, ..Tcp::default() })
}

fn from_target<N: Net>(flags: &str, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let segment = Tcp {
        source_port: TARGET_PORT,
        destination_port: 40000,
        flags,
        sequence,
        acknowledgement: 1001,
        payload,
        ..Tcp::default()
    };
    tcp::<N>(N::TARGET, N::SNAT, &segment)
}

fn expect_forwarded<N: Net>(rig: &Rig<N>, frame: &[u8], payload: &[u8]) {
    let outcome = rig.forward(frame);
    assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
    let packet = read(&outcome.frame);
    assert_eq!(packet.source, bytemuck::bytes_of(&N::SNAT));
    assert_eq!(packet.destination, bytemuck::bytes_of(&N::TARGET));
    assert_eq!((packet.source_port, packet.destination_port, packet.ttl), (40000, TARGET_PORT, 63));
    assert_eq!(packet.payload, payload);
}

fn expect_returned<N: Net>(rig: &Rig<N>, frame: &[u8], payload: &[u8]) {
    let outcome = rig.reverse(frame);
    assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
    let packet = read(&outcome.frame);
    assert_eq!(packet.source, bytemuck::bytes_of(&N::VIP));
    assert_eq!(packet.destination, bytemuck::bytes_of(&N::CLIENT));
    assert_eq!((packet.source_port, packet.destination_port, packet.ttl), (VIP_PORT, 40000, 63));
    assert_eq!(packet.payload, payload);
}

fn handshake_and_close<N: Net>() {
    let rig = Rig::<N>::new();
    expect_forwarded(&rig, &from_client::<N>("S", 0, b""), b"");
    assert_eq!(rig.state(), State::SynSent);
    expect_returned(&rig, &from_target::<N>("SA", SERVER_SEQUENCE, b""), b"");
    assert_eq!(rig.state(), State::SynReceived);
    // An acknowledgement of something else proves nothing.
    expect_forwarded(&rig, &from_client::<N>("A", 0x7000_0000, b""), b"");
    assert_eq!(rig.state(), State::SynReceived);
    expect_forwarded(&rig, &from_client::<N>("A", SERVER_SEQUENCE.wrapping_add(1), b""), b"");
    assert_eq!(rig.state(), State::Established);
    expect_forwarded(&rig, &from_client::<N>("AP", 0, b"odd"), b"odd");
    expect_returned(&rig, &from_target::<N>("AP", 1, b"evenly"), b"evenly");
    expect_returned(&rig, &from_target::<N>("AP", 1, b"odd"), b"odd");
    expect_returned(&rig, &from_target::<N>("AF", 1, b""), b"");
    assert_eq!(rig.state(), State::FinTarget);
    expect_forwarded(&rig, &from_client::<N>("AF", 0, b""), b"");
    assert_eq!(rig.state(), State::ClosedByTarget);
    expect_returned(&rig, &from_target::<N>("A", 1, b""), b"");
    let stats = rig.stats();
    assert_eq!((stats.forward_packets, stats.reverse_packets), (5, 5));
    assert_eq!((stats.flows_opened, stats.flows_closed), (1, 0));
    assert!(rig.drops().is_empty(), "{:?}", rig.drops());
}

fn no_flow_is_dropped<N: Net>() {
    let rig = Rig::<N>::new();
    for (flags, reason) in
        [("A", Drop::NoFlow), ("R", Drop::NoFlow), ("SA", Drop::NoFlow), ("SF", Drop::InvalidFlags)]
    {
        let before = rig.dropped(reason);
        assert_eq!(rig.forward(&from_client::<N>(flags, 0, b"")).verdict, SHOT, "{flags}");
        assert_eq!(rig.dropped(reason), before + 1, "{flags}");
    }
    assert!(rig.flows().is_empty() && rig.replies().is_empty());
}

fn not_ours_passes_untouched<N: Net>() {
    let rig = Rig::<N>::new();
    let other_port = tcp::<N>(N::CLIENT, N::VIP, &Tcp { destination_port: 81, flags: "S", ..Tcp::default() });
    let other_address = tcp::<N>(N::CLIENT, N::GATEWAY, &Tcp { flags: "S", ..Tcp::default() });
    for frame in [other_port, other_address] {
        let outcome = rig.forward(&frame);
        assert_eq!((outcome.verdict, outcome.frame), (PASS, frame));
    }
    let stray = from_target::<N>("A", 1, b"x");
    let outcome = rig.reverse(&stray);
    assert_eq!((outcome.verdict, outcome.frame), (PASS, stray));
    assert!(rig.drops().is_empty());
}
