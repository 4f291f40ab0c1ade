//! UDP flows, and SCTP where it passes.

use sluice_gateway_ebpf::{conntrack::State, maps::Activity, verdict::Drop};

use crate::{
    build::{Ip, ip, read, udp, udp_bytes},
    rig::{Context, Net, REDIRECT, Rig, SHOT, TARGET, TARGET_PORT, VIP_PORT},
};

both_hooks!(
    request_and_answer,
    a_second_exchange_makes_a_stream,
    sizes_keep_their_bytes,
    no_checksum_stays_none,
    complete_checksums_stay_right,
    sctp_passes_where_no_port_changes,
    bundled_sctp_is_judged_by_the_kernel,
);

const PORTS: (u16, u16) = (40000, VIP_PORT);
const ANSWER: (u16, u16) = (TARGET_PORT, 40000);

fn request_and_answer<N: Net>() {
    let rig = Rig::<N>::new();
    let sent = read(&rig.forward(&udp::<N>(N::CLIENT, N::VIP, PORTS, b"question")).frame);
    assert_eq!((sent.source.as_slice(), sent.source_port), (bytemuck::bytes_of(&N::SNAT), 40000));
    assert_eq!(
        (sent.destination.as_slice(), sent.destination_port),
        (bytemuck::bytes_of(&N::TARGET), TARGET_PORT)
    );
    assert_eq!(sent.payload, b"question");
    assert_eq!(rig.state(), State::UdpUnreplied);

    let back = read(&rig.reverse(&udp::<N>(N::TARGET, N::SNAT, ANSWER, b"answer")).frame);
    assert_eq!((back.source.as_slice(), back.source_port), (bytemuck::bytes_of(&N::VIP), VIP_PORT));
    assert_eq!((back.destination.as_slice(), back.destination_port), (bytemuck::bytes_of(&N::CLIENT), 40000));
    assert_eq!(back.payload, b"answer");
    assert_eq!(rig.state(), State::UdpReplied);
}

fn a_second_exchange_makes_a_stream<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.forward(&udp::<N>(N::CLIENT, N::VIP, PORTS, b"1"));
    rig.reverse(&udp::<N>(N::TARGET, N::SNAT, ANSWER, b"2"));
    rig.age_flows(2);
    rig.forward(&udp::<N>(N::CLIENT, N::VIP, PORTS, b"3"));
    assert_eq!(rig.state(), State::UdpStream);
}

fn sizes_keep_their_bytes<N: Net>() {
    let rig = Rig::<N>::new();
    let headers = N::HEADER as usize + 8;
    let mut bytes = 0;
    for size in [0, 1, 2, 3, 17, 18, 511, 1000, 1371, 1400 - headers] {
        let payload: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        if size + headers > 1400 {
            continue;
        }
        let outcome = rig.forward(&udp::<N>(N::CLIENT, N::VIP, PORTS, &payload));
        assert_eq!(outcome.verdict, REDIRECT, "{size}");
        assert_eq!(read(&outcome.frame).payload, payload);
        bytes += (size + headers) as u64;
    }
    assert_eq!(rig.stats().forward_bytes, bytes);
    assert_eq!(Activity(rig.flow().1.activity).bytes(), bytes);
}

fn no_checksum_stays_none<N: Net>() {
    let rig = Rig::<N>::new();
    let mut datagram = udp_bytes::<N>(N::CLIENT, N::VIP, PORTS, b"unprotected");
    datagram[6..8].fill(0);
    let frame = ip::<N>(N::CLIENT, N::VIP, 17, &datagram, Ip::default());
    for complete in [false, true] {
        let context = Context { checksum_complete: complete && complete_supported(), ..Context::default() };
        let outcome = rig.run("forward", &frame, context);
        assert_eq!(outcome.verdict, REDIRECT);
        let at = 14 + N::HEADER as usize;
        assert_eq!(outcome.frame[at..at + 2], 40000u16.to_be_bytes());
        assert_eq!(outcome.frame[at + 2..at + 4], TARGET_PORT.to_be_bytes());
        assert_eq!(outcome.frame[at + 6..at + 8], [0, 0]);
        assert_eq!(read(&outcome.frame).payload, b"unprotected");
    }
}

/// Whether this kernel's test runs check the sum of the whole packet (Linux 6.16).
/// Whether the kernel compares a complete checksum after a test run (Linux 6.16).
pub fn complete_supported() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 16)
}

fn complete_checksums_stay_right<N: Net>() {
    let rig = Rig::<N>::new();
    // An older kernel runs the same packets, without comparing its sum.
    let context = Context { checksum_complete: complete_supported(), ..Context::default() };
    let question = udp::<N>(N::CLIENT, N::VIP, PORTS, b"question");
    let answer = udp::<N>(N::TARGET, N::SNAT, ANSWER, b"odd");
    // The first packet of each direction takes the general path, the later ones the hot path; the kernel compares its sum
    // after each run and refuses a wrong one.
    for _ in 0..3 {
        assert_eq!(rig.run("forward", &question, context).verdict, REDIRECT);
        assert_eq!(rig.run("reverse", &answer, context).verdict, REDIRECT);
    }
    // A length that is not cut: where the kernel cuts a packet it gives up its sum, and the test run would compare nothing.
    let old = ip::<N>(
        N::CLIENT,
        N::VIP,
        17,
        &udp_bytes::<N>(N::CLIENT, N::VIP, PORTS, b"too old!"),
        Ip { ttl: 1, ..Ip::default() },
    );
    assert_eq!(rig.run("forward", &old, context).verdict, REDIRECT, "an ICMP error of our own");
    assert_eq!(rig.dropped(Drop::TtlExceeded), 1);
}

fn sctp_packet<N: Net>(source: N::Addr, destination: N::Addr, ports: (u16, u16), chunk: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0; 4]);
    // A CRC32c that nobody may touch; the programs do not look at it.
    packet.extend([0xde, 0xad, 0xbe, 0xef]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend([0; 16]);
    ip::<N>(source, destination, 132, &packet, Ip::default())
}

fn sctp_passes_where_no_port_changes<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_target(TARGET, |target| {
        target.protocol = 132;
        target.port = VIP_PORT;
    });
    rig.set_service(VIP_PORT, 132, |service| service.first_target = TARGET);
    let init = sctp_packet::<N>(N::CLIENT, N::VIP, (5000, VIP_PORT), 1);
    assert_eq!(
        rig.forward(&sctp_packet::<N>(N::CLIENT, N::VIP, (5000, VIP_PORT), 0)).verdict,
        SHOT,
        "not an INIT"
    );
    let outcome = rig.forward(&init);
    assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
    let at = 14 + N::HEADER as usize;
    assert_eq!(outcome.frame[at..], init[at..], "nothing of the transport changes");
    assert_eq!(rig.state(), State::SctpUnreplied);
    let back = rig.reverse(&sctp_packet::<N>(N::TARGET, N::SNAT, (VIP_PORT, 5000), 2));
    assert_eq!(back.verdict, REDIRECT);
    assert_eq!(rig.state(), State::SctpEstablished);

    // Another client with the same port would have to get another one.
    let second = sctp_packet::<N>(N::FAR_CLIENT, N::VIP, (5000, VIP_PORT), 1);
    assert_eq!(rig.forward(&second).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::SctpPort), 1);

    rig.set_target(TARGET, |target| {
        target.protocol = 132;
        target.port = TARGET_PORT;
    });
    let third = sctp_packet::<N>(N::FAR_CLIENT, N::VIP, (5001, VIP_PORT), 1);
    assert_eq!(rig.forward(&third).verdict, SHOT, "the target's port differs");
    assert_eq!(rig.dropped(Drop::SctpPort), 2);
}

fn bundled_sctp_is_judged_by_the_kernel<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_target(TARGET, |target| {
        target.protocol = 132;
        target.port = VIP_PORT;
    });
    rig.set_service(VIP_PORT, 132, |service| service.first_target = TARGET);
    // The loopback device, whose MTU no packet here exceeds.
    rig.configure(|config| config.cluster_ifindex = 1);
    let init = sctp_packet::<N>(N::CLIENT, N::VIP, (5000, VIP_PORT), 1);
    // GSO_BY_FRAGS of include/linux/skbuff.h: packets of any length in one.
    let bundle = Context { gso_size: 0xffff, gso_segs: 2, ..Context::default() };
    assert_eq!(rig.run("forward", &init, bundle).verdict, REDIRECT, "{:?}", rig.drops());
}
