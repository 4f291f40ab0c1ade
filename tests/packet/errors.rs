//! ICMP errors: those that the gateway makes, and those that it translates.

use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, icmpv4};
use sluice_gateway_ebpf::{conntrack::State, verdict::Drop};

use crate::{
    build::{Ip, Tcp, ip, read, tcp, tcp_bytes, udp, udp_bytes},
    rig::{CLUSTER_MTU, EXTERNAL_MTU, Net, PASS, REDIRECT, Rig, SHOT, TARGET, TARGET_PORT, VIP_PORT},
};

both_hooks!(
    too_big_from_a_client,
    too_big_from_a_target,
    time_exceeded_both_ways,
    no_flow_for_a_ttl_of_one,
    errors_are_rationed,
    an_error_from_outside_reaches_the_target,
    an_error_from_the_cluster_reaches_the_client,
    foreign_errors_and_echoes_pass,
    without_a_gateway_far_clients_are_refused,
);

/// Offset of the ICMP header.
fn icmp_at<N: Net>() -> usize {
    14 + N::HEADER as usize
}

/// Type, code and the 32 bits after the checksum of an ICMP error.
fn icmp<N: Net>(frame: &[u8]) -> (u8, u8, u32) {
    let h = &frame[icmp_at::<N>()..];
    (h[0], h[1], u32::from_be_bytes(h[4..8].try_into().unwrap()))
}

fn too_big<N: Net>(mtu: u32) -> (u8, u8, u32) {
    if N::IS_V4 { (3, 4, mtu) } else { (2, 0, mtu) }
}

fn time_exceeded<N: Net>() -> (u8, u8, u32) {
    if N::IS_V4 { (11, 0, 0) } else { (3, 0, 0) }
}

fn limit<N: Net>() -> usize {
    if N::IS_V4 { 576 } else { 1280 }
}

/// Checks an error about `about` and that it quotes it as it was sent.
fn expect_error<N: Net>(
    frame: &[u8],
    source: N::Addr,
    destination: N::Addr,
    about: &[u8],
    kind: (u8, u8, u32),
) {
    let error = read(frame);
    assert_eq!(error.source, bytemuck::bytes_of(&source));
    assert_eq!(error.destination, bytemuck::bytes_of(&destination));
    assert_eq!(icmp::<N>(frame), kind);
    let quote = &frame[icmp_at::<N>() + 8..];
    assert!(frame.len() - 14 <= limit::<N>());
    assert!(quote.len() >= (about.len() - 14).min(limit::<N>() - N::HEADER as usize - 8) - 3);
    assert_eq!(quote, &about[14..14 + quote.len()]);
}

fn too_big_from_a_client<N: Net>() {
    let rig = Rig::<N>::new();
    let payload = vec![9; 1400];
    for client in [N::CLIENT, N::FAR_CLIENT] {
        let frame = udp::<N>(client, N::VIP, (40000, VIP_PORT), &payload);
        let outcome = rig.forward(&frame);
        assert_eq!(outcome.verdict, REDIRECT);
        expect_error::<N>(&outcome.frame, N::VIP, client, &frame, too_big::<N>(CLUSTER_MTU));
    }
    assert_eq!(rig.dropped(Drop::TooBig), 2);
}

fn too_big_from_a_target<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.configure(|config| config.external_mtu = 1300);
    rig.forward(&udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), b"x"));
    let frame = udp::<N>(N::TARGET, N::SNAT, (TARGET_PORT, 40000), &[9; 1300]);
    let outcome = rig.reverse(&frame);
    assert_eq!(outcome.verdict, REDIRECT);
    expect_error::<N>(&outcome.frame, N::SNAT, N::TARGET, &frame, too_big::<N>(1300));
    assert_ne!(EXTERNAL_MTU, 1300);
}

fn time_exceeded_both_ways<N: Net>() {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    let old = Ip { ttl: 1, ..Ip::default() };
    for payload in [&b""[..], b"odd", &[1; 100]] {
        let segment = tcp_bytes::<N>(N::CLIENT, N::VIP, &Tcp { payload, ..Tcp::default() });
        let frame = ip::<N>(N::CLIENT, N::VIP, 6, &segment, old);
        let outcome = rig.forward(&frame);
        expect_error::<N>(&outcome.frame, N::VIP, N::CLIENT, &frame, time_exceeded::<N>());
        let answer = Tcp { source_port: TARGET_PORT, destination_port: 40000, payload, ..Tcp::default() };
        let segment = tcp_bytes::<N>(N::TARGET, N::SNAT, &answer);
        let frame = ip::<N>(N::TARGET, N::SNAT, 6, &segment, old);
        let outcome = rig.reverse(&frame);
        expect_error::<N>(&outcome.frame, N::SNAT, N::TARGET, &frame, time_exceeded::<N>());
    }
    assert_eq!(rig.drops(), [("ttl_exceeded", 6)]);
    assert_eq!(rig.state(), State::Established);
}

fn no_flow_for_a_ttl_of_one<N: Net>() {
    let rig = Rig::<N>::new();
    let segment = tcp_bytes::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", ..Tcp::default() });
    let frame = ip::<N>(N::CLIENT, N::VIP, 6, &segment, Ip { ttl: 1, ..Ip::default() });
    let outcome = rig.forward(&frame);
    expect_error::<N>(&outcome.frame, N::VIP, N::CLIENT, &frame, time_exceeded::<N>());
    assert!(rig.flows().is_empty() && rig.replies().is_empty());
}

fn errors_are_rationed<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.configure(|config| config.icmp_rate = 0);
    let frame = udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), &[9; 1400]);
    assert_eq!(rig.forward(&frame).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::TooBig), 1);
}

/// An ICMP error from `router` to `to` that quotes `quoted`: "packet too big, MTU 1280".
fn error<N: Net>(router: N::Addr, to: N::Addr, quoted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if N::IS_V4 {
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1280,
        });
        Icmpv4Header::with_checksum(kind, quoted).write(&mut bytes).unwrap();
    } else {
        let kind = Icmpv6Type::PacketTooBig { mtu: 1280 };
        let (source, destination) = (bytemuck::bytes_of(&router), bytemuck::bytes_of(&to));
        Icmpv6Header::with_checksum(
            kind,
            source.try_into().unwrap(),
            destination.try_into().unwrap(),
            quoted,
        )
        .unwrap()
        .write(&mut bytes)
        .unwrap();
    }
    bytes.extend(quoted);
    ip::<N>(router, to, N::ICMP, &bytes, Ip::default())
}

/// The quotes that a router may send of a packet: all of it, the first eight bytes of its transport, and odd lengths.
fn quotes<N: Net>(packet: &[u8]) -> Vec<Vec<u8>> {
    let whole = packet[14..].to_vec();
    let header = N::HEADER as usize;
    [whole.len(), header + 8, header + 15, header + 19].map(|n| whole[..n.min(whole.len())].to_vec()).to_vec()
}

fn an_error_from_outside_reaches_the_target<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.establish(40000);
    rig.set_target(TARGET, |_| {});
    let data = |source, destination, ports: (u16, u16)| {
        tcp::<N>(
            source,
            destination,
            &Tcp {
                source_port: ports.0,
                destination_port: ports.1,
                flags: "AP",
                payload: b"some data",
                ..Tcp::default()
            },
        )
    };
    // What the gateway sent to the client, and what the target had sent to make it.
    let outside = quotes::<N>(&data(N::VIP, N::CLIENT, (VIP_PORT, 40000)));
    let inside = quotes::<N>(&data(N::TARGET, N::SNAT, (TARGET_PORT, 40000)));
    for (quote, expected) in outside.iter().zip(&inside) {
        let outcome = rig.forward(&error::<N>(N::ROUTER, N::VIP, quote));
        assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
        let packet = read(&outcome.frame);
        assert_eq!(packet.source, bytemuck::bytes_of(&N::SNAT));
        assert_eq!(packet.destination, bytemuck::bytes_of(&N::TARGET));
        assert_eq!(icmp::<N>(&outcome.frame), too_big::<N>(1280));
        assert_eq!(&outcome.frame[icmp_at::<N>() + 8..], expected.as_slice(), "byte for byte");
    }
    assert_eq!(rig.state(), State::Established);
}

fn an_error_from_the_cluster_reaches_the_client<N: Net>() {
    let rig = Rig::<N>::new();
    let payload = b"a question";
    rig.forward(&udp::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), payload));
    let datagram = |source, destination, ports| {
        ip::<N>(source, destination, 17, &udp_bytes::<N>(source, destination, ports, payload), Ip::default())
    };
    let inside = quotes::<N>(&datagram(N::SNAT, N::TARGET, (40000, TARGET_PORT)));
    let outside = quotes::<N>(&datagram(N::CLIENT, N::VIP, (40000, VIP_PORT)));
    for (quote, expected) in inside.iter().zip(&outside) {
        let outcome = rig.reverse(&error::<N>(N::ROUTER, N::SNAT, quote));
        assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
        let packet = read(&outcome.frame);
        assert_eq!(packet.source, bytemuck::bytes_of(&N::VIP), "the client knows only the VIP");
        assert_eq!(packet.destination, bytemuck::bytes_of(&N::CLIENT));
        assert_eq!(&outcome.frame[icmp_at::<N>() + 8..], expected.as_slice(), "byte for byte");
    }
}

fn foreign_errors_and_echoes_pass<N: Net>() {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    let stranger =
        tcp::<N>(N::VIP, N::CLIENT, &Tcp { source_port: VIP_PORT, destination_port: 1, ..Tcp::default() });
    let frame = error::<N>(N::ROUTER, N::VIP, &stranger[14..]);
    let outcome = rig.forward(&frame);
    assert_eq!((outcome.verdict, outcome.frame), (PASS, frame));
    let echo = if N::IS_V4 { [8, 0, 0xf7, 0xff, 0, 0, 0, 0] } else { [128, 0, 0, 0, 0, 0, 0, 0] };
    let frame = ip::<N>(N::CLIENT, N::VIP, N::ICMP, &echo, Ip::default());
    let outcome = rig.forward(&frame);
    assert_eq!((outcome.verdict, outcome.frame), (PASS, frame), "the kernel answers for the VIP");
}

fn without_a_gateway_far_clients_are_refused<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_target(TARGET, |target| target.external_next_hop = N::Addr::default());
    for (client, port, expected) in [(N::CLIENT, 40000, REDIRECT), (N::FAR_CLIENT, 40001, SHOT)] {
        rig.forward(&udp::<N>(client, N::VIP, (port, VIP_PORT), b"x"));
        let answer = udp::<N>(N::TARGET, N::SNAT, (TARGET_PORT, port), b"y");
        assert_eq!(rig.reverse(&answer).verdict, expected);
    }
    assert_eq!(rig.drops(), [("no_route", 1)]);
}
