//! Headers that are not the plain ones: options, extension headers, MSS, padding, and what does not hold together.

use sluice_gateway_ebpf::{
    family::{V4, V6},
    verdict::Drop,
};

use crate::{
    build::{Ip, Tcp, ethernet, ip, read, tcp, tcp_bytes, udp_bytes},
    rig::{CLUSTER_MTU, Context, Net, PASS, REDIRECT, Rig, SHOT, TARGET_PORT, VIP_PORT},
};

both_hooks!(
    mss_is_clamped_on_both_sides,
    a_small_mss_stays,
    padding_is_not_part_of_the_packet,
    malformed_transport_is_refused,
    martians_are_refused,
    super_packets_are_judged_by_their_segments,
    truncated_frames_never_get_through,
);

/// The MSS option of the TCP header in `frame`.
fn mss(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn mss_is_clamped_on_both_sides<N: Net>() {
    let largest = (CLUSTER_MTU - N::HEADER - 20) as u16;
    let [high, low] = 1460u16.to_be_bytes();
    // At an even and at an odd offset: the checksum's words are cut differently.
    for (options, offset) in [([2, 4, high, low, 1, 1, 1, 0], 2), ([1, 2, 4, high, low, 1, 1, 0], 3)] {
        let rig = Rig::<N>::new();
        let at = 14 + N::HEADER as usize + 20 + offset;
        let syn = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", options: &options, ..Tcp::default() });
        let outcome = rig.forward(&syn);
        read(&outcome.frame);
        assert_eq!((outcome.verdict, mss(&outcome.frame, at)), (REDIRECT, largest));
        let answer = Tcp {
            source_port: TARGET_PORT,
            destination_port: 40000,
            flags: "SA",
            options: &options,
            ..Tcp::default()
        };
        let outcome = rig.reverse(&tcp::<N>(N::TARGET, N::SNAT, &answer));
        read(&outcome.frame);
        assert_eq!((outcome.verdict, mss(&outcome.frame, at)), (REDIRECT, largest));
    }
}

fn a_small_mss_stays<N: Net>() {
    let rig = Rig::<N>::new();
    for options in [&[2, 4, 2, 24][..], &[3, 3, 7, 0], &[1, 1, 1, 1], &[8, 0, 0, 0], &[]] {
        let syn = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", options, ..Tcp::default() });
        let outcome = rig.forward(&syn);
        read(&outcome.frame);
        let at = 14 + N::HEADER as usize + 20;
        assert_eq!((outcome.verdict, &outcome.frame[at..at + options.len()]), (REDIRECT, options));
    }
}

fn padding_is_not_part_of_the_packet<N: Net>() {
    let rig = Rig::<N>::new();
    let mut frame = ip::<N>(
        N::CLIENT,
        N::VIP,
        17,
        &udp_bytes::<N>(N::CLIENT, N::VIP, (1, VIP_PORT), b"x"),
        Ip::default(),
    );
    let length = frame.len() as u64 - 14;
    frame.extend([0xaa; 17]);
    for _ in 0..2 {
        let outcome = rig.forward(&frame);
        assert_eq!(outcome.verdict, REDIRECT);
        assert_eq!(read(&outcome.frame).payload, b"x");
    }
    assert_eq!(rig.stats().forward_bytes, 2 * length);
}

fn malformed_transport_is_refused<N: Net>() {
    let rig = Rig::<N>::new();
    let mut short_offset = tcp_bytes::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", ..Tcp::default() });
    short_offset[12] = 0x40;
    let mut long_offset = short_offset.clone();
    long_offset[12] = 0xf0;
    let cut = tcp_bytes::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", ..Tcp::default() })[..12].to_vec();
    for bytes in [short_offset, long_offset, cut] {
        let before = rig.dropped(Drop::Malformed);
        let frame = ip::<N>(N::CLIENT, N::VIP, 6, &bytes, Ip::default());
        assert_eq!(rig.forward(&frame).verdict, SHOT, "{bytes:02x?}");
        assert_eq!(rig.dropped(Drop::Malformed), before + 1);
    }
    for length in [0u16, 7, 200] {
        let mut datagram = udp_bytes::<N>(N::CLIENT, N::VIP, (1, VIP_PORT), b"payload");
        datagram[4..6].copy_from_slice(&length.to_be_bytes());
        let before = rig.dropped(Drop::Malformed);
        assert_eq!(
            rig.forward(&ip::<N>(N::CLIENT, N::VIP, 17, &datagram, Ip::default())).verdict,
            SHOT,
            "{length}"
        );
        assert_eq!(rig.dropped(Drop::Malformed), before + 1);
    }
    assert!(rig.flows().is_empty() && rig.replies().is_empty());
}

fn martians_are_refused<N: Net>() {
    let rig = Rig::<N>::new();
    let mut multicast = N::CLIENT;
    bytemuck::bytes_of_mut(&mut multicast)[0] = if N::IS_V4 { 224 } else { 0xff };
    let mut sources = vec![multicast, N::VIP, N::Addr::default()];
    if !N::IS_V4 {
        let mut link_local = N::CLIENT;
        bytemuck::bytes_of_mut(&mut link_local)[..2].copy_from_slice(&[0xfe, 0x80]);
        sources.push(link_local);
    }
    for source in sources {
        let before = rig.dropped(Drop::Martian);
        let frame = tcp::<N>(source, N::VIP, &Tcp { flags: "S", ..Tcp::default() });
        assert_eq!(rig.forward(&frame).verdict, SHOT, "{source:?}");
        assert_eq!(rig.dropped(Drop::Martian), before + 1);
    }
}

fn super_packets_are_judged_by_their_segments<N: Net>() {
    let rig = Rig::<N>::new();
    rig.establish(40000);
    let payload = vec![0x5a; 3000];
    let frame = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "A", payload: &payload, ..Tcp::default() });
    let fits = CLUSTER_MTU - N::HEADER - 20;
    let before = rig.stats();
    let context = Context { gso_size: fits, gso_segs: 3, ..Context::default() };
    let outcome = rig.run("forward", &frame, context);
    assert_eq!(outcome.verdict, REDIRECT);
    assert_eq!(read(&outcome.frame).payload, payload);
    let after = rig.stats();
    assert_eq!(after.forward_packets - before.forward_packets, 3);
    assert_eq!(after.forward_bytes - before.forward_bytes, u64::from(N::HEADER) + 20 + 3000);

    let context = Context { gso_size: fits + 1, gso_segs: 3, ..Context::default() };
    assert_eq!(rig.run("forward", &frame, context).verdict, REDIRECT, "answered by an ICMP error");
    assert_eq!(rig.dropped(Drop::TooBig), 1);
    assert_eq!(rig.stats().forward_packets, after.forward_packets);
}

fn truncated_frames_never_get_through<N: Net>() {
    let rig = Rig::<N>::new();
    let whole = tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags: "S", payload: b"data", ..Tcp::default() });
    for length in 14 + N::HEADER as usize..whole.len() {
        let outcome = rig.forward(&whole[..length]);
        assert_eq!((outcome.verdict, outcome.frame.as_slice()), (PASS, &whole[..length]), "{length}");
    }
    assert!(rig.flows().is_empty() && rig.replies().is_empty());
}

/// An IPv4 TCP SYN with header options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let segment = tcp_bytes::<V4>(V4::CLIENT, V4::VIP, &Tcp { flags: "S", ..Tcp::default() });
    let mut header =
        etherparse::Ipv4Header::new(segment.len() as u16, 64, 6.into(), V4::CLIENT, V4::VIP).unwrap();
    header.options = options.try_into().unwrap();
    header.set_payload_len(segment.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = ethernet::<V4>();
    header.write(&mut frame).unwrap();
    frame.extend(segment);
    frame
}

#[test]
fn ipv4_options_are_carried() {
    let rig = Rig::<V4>::new();
    // No-operation; router alert (RFC 2113); record route (RFC 791).
    for options in [&[1, 1, 1, 0][..], &[148, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 0]] {
        let frame = with_options(options);
        let outcome = rig.forward(&frame);
        assert_eq!(outcome.verdict, REDIRECT, "{options:?}");
        let packet = read(&outcome.frame);
        assert_eq!((packet.destination_port, packet.ttl), (TARGET_PORT, 63));
        assert_eq!(&outcome.frame[34..34 + options.len()], options);
    }
}

#[test]
fn ipv4_source_routes_are_refused() {
    let rig = Rig::<V4>::new();
    for (count, options) in
        [&[131, 7, 4, 9, 9, 9, 9, 0][..], &[1, 137, 7, 4, 9, 9, 9, 9]].into_iter().enumerate()
    {
        assert_eq!(rig.forward(&with_options(options)).verdict, SHOT);
        assert_eq!(rig.dropped(Drop::SourceRoute), count as u64 + 1);
    }
}

/// An IPv6 TCP SYN behind extension headers, each `(kind, bytes after the next-header byte)`.
fn with_extensions(headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let segment = tcp_bytes::<V6>(V6::CLIENT, V6::VIP, &Tcp { flags: "S", ..Tcp::default() });
    let mut bytes = Vec::new();
    for (index, (_, rest)) in headers.iter().enumerate() {
        bytes.push(headers.get(index + 1).map_or(6, |(kind, _)| *kind));
        bytes.extend(rest);
    }
    bytes.extend(segment);
    ip::<V6>(V6::CLIENT, V6::VIP, headers.first().map_or(6, |(kind, _)| *kind), &bytes, Ip::default())
}

/// The rest of an options header of eight bytes: length 0, PadN.
fn padding() -> Vec<u8> {
    vec![0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let rig = Rig::<V6>::new();
    let spent_route = vec![0, 0, 0, 0, 0, 0, 0];
    let atomic_fragment = vec![0, 0, 0, 0, 0, 0, 9];
    for headers in [
        vec![(0, padding())],
        vec![(0, padding()), (60, padding()), (43, spent_route), (60, padding())],
        vec![(44, atomic_fragment)],
    ] {
        let frame = with_extensions(&headers);
        let outcome = rig.forward(&frame);
        assert_eq!(outcome.verdict, REDIRECT, "{headers:?}: {:?}", rig.drops());
        let packet = read(&outcome.frame);
        assert_eq!((packet.destination_port, packet.ttl), (TARGET_PORT, 63));
    }
    assert!(rig.drops().is_empty());
}

#[test]
fn ipv6_routes_and_chains_are_refused() {
    let rig = Rig::<V6>::new();
    let route = vec![0, 0, 1, 0, 0, 0, 0];
    assert_eq!(rig.forward(&with_extensions(&[(43, route)])).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::SourceRoute), 1);
    let chain: Vec<_> = (0..9).map(|_| (60, padding())).collect();
    assert_eq!(rig.forward(&with_extensions(&chain)).verdict, SHOT);
    assert_eq!(rig.dropped(Drop::ExtensionHeaders), 1);
    assert!(rig.flows().is_empty());
}
