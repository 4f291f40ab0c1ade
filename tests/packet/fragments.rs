//! Fragmented packets, and IPv4 packets that the stack has to fragment.

use etherparse::{Ipv4Header, NetSlice, SlicedPacket};
use sluice_gateway_ebpf::family::{V4, V6};

use crate::{
    build::{Ip, ethernet, ip, udp_bytes},
    rig::{Context, Net, PASS, REDIRECT, Rig, SHOT, TARGET_PORT, VIP_PORT},
};

both_hooks!(first_then_later, later_before_first_is_dropped, an_overlapping_tcp_fragment_is_dropped);

const ID: u32 = 0x00ab;

/// A piece of a fragmented packet.
struct Piece<'a> {
    protocol: u8,
    /// In bytes, a multiple of eight.
    offset: u16,
    more: bool,
    bytes: &'a [u8],
}

fn fragment<N: Net>(source: N::Addr, destination: N::Addr, piece: &Piece<'_>) -> Vec<u8> {
    if N::IS_V4 {
        let mut header = Ipv4Header::new(
            piece.bytes.len() as u16,
            64,
            piece.protocol.into(),
            bytemuck::bytes_of(&source).try_into().unwrap(),
            bytemuck::bytes_of(&destination).try_into().unwrap(),
        )
        .unwrap();
        header.identification = ID as u16;
        header.dont_fragment = false;
        header.more_fragments = piece.more;
        header.fragment_offset = (piece.offset / 8).try_into().unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut frame: Vec<u8> = ethernet::<N>();
        header.write(&mut frame).unwrap();
        frame.extend(piece.bytes);
        return frame;
    }
    let mut bytes = vec![piece.protocol, 0];
    bytes.extend((piece.offset | u16::from(piece.more)).to_be_bytes());
    bytes.extend(ID.to_be_bytes());
    bytes.extend(piece.bytes);
    ip::<N>(source, destination, 44, &bytes, Ip::default())
}

/// Offset of the transport bytes of a fragment.
fn transport<N: Net>() -> usize {
    14 + N::HEADER as usize + if N::IS_V4 { 0 } else { 8 }
}

/// Source and destination, after the header checksum was found right.
fn addresses(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    match SlicedPacket::from_ethernet(frame).expect("a packet").net.expect("an IP packet") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            (header.source.to_vec(), header.destination.to_vec())
        }
        NetSlice::Ipv6(ip) => (ip.header().source().to_vec(), ip.header().destination().to_vec()),
        NetSlice::Arp(_) => panic!("ARP"),
    }
}

fn first_then_later<N: Net>() {
    let rig = Rig::<N>::new();
    let payload: Vec<u8> = (0..600).map(|i| i as u8).collect();
    let datagram = udp_bytes::<N>(N::CLIENT, N::VIP, (40000, VIP_PORT), &payload);
    let first = Piece { protocol: 17, offset: 0, more: true, bytes: &datagram[..304] };
    let later = Piece { protocol: 17, offset: 304, more: false, bytes: &datagram[304..] };
    let mut whole = Vec::<u8>::new();
    for piece in [&first, &later] {
        let outcome = rig.forward(&fragment::<N>(N::CLIENT, N::VIP, piece));
        assert_eq!(outcome.verdict, REDIRECT, "{:?}", rig.drops());
        let (source, destination) = addresses(&outcome.frame);
        assert_eq!(source, bytemuck::bytes_of(&N::SNAT));
        assert_eq!(destination, bytemuck::bytes_of(&N::TARGET));
        whole.extend_from_slice(&outcome.frame[transport::<N>()..]);
    }
    // Put together, the datagram is what the client would have sent to the target.
    assert_eq!(whole, udp_bytes::<N>(N::SNAT, N::TARGET, (40000, TARGET_PORT), &payload));

    let answer = udp_bytes::<N>(N::TARGET, N::SNAT, (TARGET_PORT, 40000), &payload);
    let first = Piece { bytes: &answer[..304], ..first };
    let later = Piece { bytes: &answer[304..], ..later };
    let mut whole = Vec::<u8>::new();
    for piece in [&first, &later] {
        let outcome = rig.reverse(&fragment::<N>(N::TARGET, N::SNAT, piece));
        assert_eq!(outcome.verdict, REDIRECT);
        assert_eq!(addresses(&outcome.frame).1, bytemuck::bytes_of(&N::CLIENT));
        whole.extend_from_slice(&outcome.frame[transport::<N>()..]);
    }
    assert_eq!(whole, udp_bytes::<N>(N::VIP, N::CLIENT, (VIP_PORT, 40000), &payload));
}

fn later_before_first_is_dropped<N: Net>() {
    let rig = Rig::<N>::new();
    let later = Piece { protocol: 17, offset: 304, more: false, bytes: &[1; 64] };
    assert_eq!(rig.forward(&fragment::<N>(N::CLIENT, N::VIP, &later)).verdict, SHOT);
    assert_eq!(rig.drops(), [("fragment_unknown", 1)]);
    let frame = fragment::<N>(N::TARGET, N::SNAT, &later);
    let outcome = rig.reverse(&frame);
    assert_eq!((outcome.verdict, outcome.frame), (PASS, frame), "it may be for the pod itself");
}

fn an_overlapping_tcp_fragment_is_dropped<N: Net>() {
    let rig = Rig::<N>::new();
    let segment = crate::build::tcp_bytes::<N>(
        N::CLIENT,
        N::VIP,
        &crate::build::Tcp { flags: "S", payload: &[0; 28], ..crate::build::Tcp::default() },
    );
    let first = Piece { protocol: 6, offset: 0, more: true, bytes: &segment };
    assert_eq!(rig.forward(&fragment::<N>(N::CLIENT, N::VIP, &first)).verdict, REDIRECT);
    let tiny = Piece { protocol: 6, offset: 8, more: false, bytes: &[0; 16] };
    assert_eq!(rig.forward(&fragment::<N>(N::CLIENT, N::VIP, &tiny)).verdict, SHOT);
    assert_eq!(rig.drops(), [("fragment_overlap", 1)]);
}

#[test]
fn the_stack_fragments_what_may_be_fragmented() {
    let rig = Rig::<V4>::new();
    let payload = vec![3; 1472];
    let datagram = udp_bytes::<V4>(V4::CLIENT, V4::VIP, (40000, VIP_PORT), &payload);
    let frame = ip::<V4>(V4::CLIENT, V4::VIP, 17, &datagram, Ip { dont_fragment: false, ..Ip::default() });
    let outcome = rig.forward(&frame);
    assert_eq!(outcome.verdict, PASS, "on to the stack: {:?}", rig.drops());
    let (source, destination) = addresses(&outcome.frame);
    assert_eq!((source.as_slice(), destination.as_slice()), (&V4::CLIENT[..], &V4::TARGET[..]));
    assert_eq!(outcome.frame[22], 64, "the stack takes the TTL down");
    // The transport is final already: later fragments will carry no checksum.
    let sent = udp_bytes::<V4>(V4::SNAT, V4::TARGET, (40000, TARGET_PORT), &payload);
    assert_eq!(outcome.frame[34..], sent);
    assert_ne!(outcome.mark, 0);

    // What leaves the stack: here on the cluster link.
    let context = Context { mark: outcome.mark, ..Context::default() };
    let mut rig = rig;
    rig.configure(|config| config.cluster_ifindex = 1);
    let left = rig.run("egress", &outcome.frame, context);
    assert_eq!((left.verdict, left.mark), (PASS, 0));
    assert_eq!(addresses(&left.frame), (V4::SNAT.to_vec(), V4::TARGET.to_vec()));
    assert_eq!(left.frame[34..], sent);

    let unmarked = rig.run("egress", &frame, Context::default());
    assert_eq!((unmarked.verdict, unmarked.frame), (PASS, frame));
}

#[test]
fn oversized_fragments_take_the_slow_path_too() {
    let rig = Rig::<V4>::new();
    let payload = vec![3; 4000];
    let datagram = udp_bytes::<V4>(V4::CLIENT, V4::VIP, (40000, VIP_PORT), &payload);
    let first = Piece { protocol: 17, offset: 0, more: true, bytes: &datagram[..1480] };
    let second = Piece { protocol: 17, offset: 1480, more: true, bytes: &datagram[1480..2960] };
    let last = Piece { protocol: 17, offset: 2960, more: false, bytes: &datagram[2960..] };
    let marks: Vec<_> = [&first, &second]
        .map(|piece| {
            let outcome = rig.forward(&fragment::<V4>(V4::CLIENT, V4::VIP, piece));
            assert_eq!(outcome.verdict, PASS, "{:?}", rig.drops());
            assert_eq!(addresses(&outcome.frame), (V4::CLIENT.to_vec(), V4::TARGET.to_vec()));
            outcome.mark
        })
        .into();
    assert!(marks[0] != 0 && marks[0] == marks[1]);
    assert_eq!(rig.forward(&fragment::<V4>(V4::CLIENT, V4::VIP, &last)).verdict, REDIRECT);
}

#[test]
fn ipv6_is_never_fragmented_on_the_way() {
    let rig = Rig::<V6>::new();
    let payload = vec![3; 1440];
    let datagram = udp_bytes::<V6>(V6::CLIENT, V6::VIP, (40000, VIP_PORT), &payload);
    let piece = Piece { protocol: 17, offset: 0, more: true, bytes: &datagram[..1440] };
    let outcome = rig.forward(&fragment::<V6>(V6::CLIENT, V6::VIP, &piece));
    assert_eq!(outcome.verdict, REDIRECT);
    assert_eq!(rig.drops(), [("too_big", 1)]);
    assert_eq!(outcome.frame[14 + 40], 2, "packet too big");
}
