//! The parser against etherparse, which shares no code with it.

use etherparse::{
    Ipv6ExtensionSlice, NetSlice, SlicedPacket, TransportSlice,
    err::{Layer, LenError, packet::SliceError},
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::{ETHERNET, Network, Packet, ParseError, fragment, parse, protocol};
use crate::family::{Family, V4, V6};

/// A packet to be put together.
#[derive(Clone, Debug)]
struct Sent {
    addresses: [[u8; 16]; 2],
    ttl: u8,
    dont_fragment: bool,
    id: u32,
    /// Words of no-operation options of IPv4.
    options: u8,
    /// IPv6 extension headers before the fragment header: kind, and length in 8-byte units beyond the first.
    extensions: Vec<(u8, u8)>,
    /// Offset in 8-byte units, and whether more fragments follow.
    fragment: Option<(u16, bool)>,
    protocol: u8,
    ports: [u16; 2],
    numbers: [u32; 2],
    flags: u8,
    /// Words of TCP options.
    tcp_options: u8,
    payload: Vec<u8>,
    padding: u8,
}

fn sent(icmp: u8) -> impl Strategy<Value = Sent> {
    let network = (
        any::<[[u8; 16]; 2]>(),
        any::<u8>(),
        any::<bool>(),
        any::<u32>(),
        0..=10_u8,
        vec((prop_oneof![Just(43_u8), Just(60)], 0..4_u8), 0..4),
        option::weighted(0.3, (0..1000_u16, any::<bool>())),
    );
    let transport = (
        prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(icmp)],
        any::<[u16; 2]>(),
        any::<[u32; 2]>(),
        any::<u8>(),
        0..=10_u8,
        vec(any::<u8>(), 0..64),
        0..20_u8,
    );
    (network, transport).prop_map(|(network, transport)| {
        let (addresses, ttl, dont_fragment, id, options, extensions, fragment) = network;
        let (protocol, ports, numbers, flags, tcp_options, payload, padding) = transport;
        Sent {
            addresses,
            ttl,
            dont_fragment,
            id,
            options,
            extensions,
            fragment,
            protocol,
            ports,
            numbers,
            flags,
            tcp_options,
            payload,
            padding,
        }
    })
}

impl Sent {
    fn transport(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        match self.protocol {
            protocol::TCP => {
                bytes.extend(self.numbers.iter().flat_map(|number| number.to_be_bytes()));
                bytes.extend([(5 + self.tcp_options) << 4, self.flags, 1, 2, 3, 4, 5, 6]);
                bytes.extend(vec![1; usize::from(self.tcp_options) * 4]);
            }
            protocol::UDP => {
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0xab, 0xcd]);
            }
            // Echo requests, whose form etherparse knows.
            protocol::ICMP => bytes = vec![8, 0, 0, 0, 1, 2, 3, 4],
            _ => bytes = vec![128, 0, 0, 0, 1, 2, 3, 4],
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame, without what it is padded with.
    fn frame<F: Family>(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut frame = vec![2; 12];
        frame.extend(F::ETHERTYPE.to_be_bytes());
        let (offset, more) = self.fragment.unwrap_or_default();
        if F::IS_V4 {
            let header = 20 + usize::from(self.options) * 4;
            frame.extend([0x40 | (header / 4) as u8, 0]);
            frame.extend(((header + transport.len()) as u16).to_be_bytes());
            frame.extend((self.id as u16).to_be_bytes());
            let flags = offset | u16::from(more) << 13 | u16::from(self.dont_fragment) << 14;
            frame.extend(flags.to_be_bytes());
            frame.extend([self.ttl, self.protocol, 0, 0]);
            self.addresses.iter().for_each(|address| frame.extend(&address[..4]));
            frame.extend(vec![1; header - 20]);
        } else {
            let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
            kinds.extend(self.fragment.map(|_| 44));
            kinds.push(self.protocol);
            let mut chain = Vec::new();
            for ((_, units), next) in self.extensions.iter().zip(&kinds[1..]) {
                chain.extend([*next, *units]);
                chain.extend(vec![0; 6 + usize::from(*units) * 8]);
            }
            if self.fragment.is_some() {
                chain.extend([self.protocol, 0]);
                chain.extend((offset << 3 | u16::from(more)).to_be_bytes());
                chain.extend(self.id.to_be_bytes());
            }
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(((chain.len() + transport.len()) as u16).to_be_bytes());
            frame.extend([kinds[0], self.ttl]);
            self.addresses.iter().for_each(|address| frame.extend(address));
            frame.extend(chain);
        }
        frame.extend(transport);
        frame
    }
}

/// Holds what the parser read in a frame against what etherparse reads there, as far as both have an opinion.
fn compare<N: Network>(frame: &[u8], packet: &Packet<N::Addr>, slices: &SlicedPacket<'_>) {
    let bytes = |address: &N::Addr| bytemuck::bytes_of(address).to_vec();
    let (source, destination, ttl, payload) = match slices.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let offset = header.fragments_offset().byte_offset();
            assert_eq!(packet.fragment_offset, offset);
            assert_eq!(packet.fragment == fragment::FIRST, header.more_fragments() && offset == 0);
            assert_eq!(packet.dont_fragment != 0, header.dont_fragment());
            assert_eq!(packet.id, u32::from(header.identification()));
            (header.source().to_vec(), header.destination().to_vec(), header.ttl(), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source().to_vec(), header.destination().to_vec(), header.hop_limit(), ip.payload())
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!((bytes(&packet.source), bytes(&packet.destination)), (source, destination));
    assert_eq!((packet.ttl, packet.fragment != fragment::NONE), (ttl, payload.fragmented));
    // In a later fragment etherparse goes on to look for extension headers, where there are data.
    if packet.fragment != fragment::LATER {
        assert_eq!(packet.protocol, payload.ip_number.0);
        assert_eq!(&frame[packet.transport as usize..packet.end as usize], payload.payload);
    }
    match &slices.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(packet.malformed, 0);
            assert_eq!(
                (packet.source_port, packet.destination_port),
                (tcp.source_port(), tcp.destination_port())
            );
            assert_eq!(
                (packet.sequence, packet.acknowledgement),
                (tcp.sequence_number(), tcp.acknowledgment_number())
            );
            assert_eq!(
                (packet.flags, usize::from(packet.header)),
                (tcp.slice()[13], tcp.header_slice().len())
            );
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(
                (packet.source_port, packet.destination_port),
                (udp.source_port(), udp.destination_port())
            );
            assert_eq!(u16::from_be(packet.checksum), udp.checksum());
        }
        Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(packet.flags, icmp.type_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => assert_eq!(packet.flags, icmp.type_u8()),
        // Fragments, and what etherparse does not know.
        None => assert!(packet.fragment != fragment::NONE || packet.protocol == protocol::SCTP, "{packet:?}"),
        Some(other) => panic!("{other:?}"),
    }
}

/// A whole packet is read as it was put together, and as etherparse reads it.
fn whole<N: Network>(sent: &Sent) {
    let mut frame = sent.frame::<N>();
    let end = frame.len();
    frame.extend(vec![0xff; sent.padding.into()]);
    let mut packet = Packet::default();
    assert_eq!(parse::<N>(&frame.as_slice(), &mut packet), Ok(()));
    assert_eq!((packet.end as usize, packet.malformed, packet.protocol), (end, 0, sent.protocol));
    assert_eq!(packet.transport as usize, end - sent.transport().len());
    assert_eq!(packet.length(), packet.end - ETHERNET);
    let expected = match sent.fragment {
        None | Some((0, false)) => fragment::NONE,
        Some((0, true)) => fragment::FIRST,
        Some(_) => fragment::LATER,
    };
    assert_eq!(packet.fragment, expected);
    if let Some((offset, _)) = sent.fragment {
        assert_eq!(packet.id, if N::IS_V4 { sent.id & 0xffff } else { sent.id });
        assert_eq!(packet.fragment_offset, offset * 8);
    }
    let has_ports = expected != fragment::LATER && [protocol::TCP, protocol::UDP].contains(&sent.protocol);
    assert_eq!([packet.source_port, packet.destination_port], if has_ports { sent.ports } else { [0; 2] });
    compare::<N>(&frame, &packet, &SlicedPacket::from_ethernet(&frame).unwrap());
}

/// A damaged packet that both accept, both read alike; a transport header that one refuses, so does the other.
fn damaged<N: Network>(sent: &Sent, damage: &[(Index, u8)], cut: Option<Index>) {
    let mut frame = sent.frame::<N>();
    for (index, value) in damage {
        // Not the Ethernet header, which the parser does not read; and mostly the headers.
        let range = (frame.len() - ETHERNET as usize).min(64);
        frame[ETHERNET as usize + index.index(range)] = *value;
    }
    if let Some(cut) = cut {
        frame.truncate(ETHERNET as usize + cut.index(frame.len() - ETHERNET as usize));
    }
    let mut packet = Packet::default();
    let ours = parse::<N>(&frame.as_slice(), &mut packet);
    let theirs = match SlicedPacket::from_ethernet(&frame) {
        Ok(theirs) => theirs,
        // A transport header that does not hold together, in a packet that does.
        Err(
            SliceError::Tcp(_)
            | SliceError::Len(LenError {
                layer: Layer::TcpHeader | Layer::UdpHeader | Layer::UdpPayload, ..
            }),
        ) => {
            assert!(ours.is_err() || packet.malformed != 0, "{packet:?}");
            return;
        }
        Err(_) => return,
    };
    match ours {
        Ok(()) => compare::<N>(&frame, &packet, &theirs),
        // Refused on purpose.
        Err(ParseError::SourceRoute | ParseError::ExtensionHeaders) => {}
        Err(ParseError::NotOurs) => assert!(
            is_left_to_the_kernel(&theirs)
                || !matches!(theirs.transport, Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_))),
            "not ours? {theirs:?}"
        ),
    }
}

/// Whether a packet is one that etherparse reads and that is left to the kernel on purpose: with an authentication header (RFC 4302),
/// which covers the addresses, or a jumbogram (RFC 2675), whose header gives no length.
fn is_left_to_the_kernel(slices: &SlicedPacket<'_>) -> bool {
    match slices.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => ip.extensions().auth.is_some(),
        NetSlice::Ipv6(ip) => {
            let mut extensions = ip.extensions().clone().into_iter();
            ip.header().payload_length() == 0
                || extensions.any(|e| matches!(e, Ipv6ExtensionSlice::Authentication(_)))
        }
        NetSlice::Arp(_) => false,
    }
}

fn damage() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    (vec((any::<Index>(), any::<u8>()), 1..4), option::weighted(0.2, any::<Index>()))
}

proptest! {
    #[test]
    fn whole_v4(sent in sent(protocol::ICMP)) { whole::<V4>(&sent) }
    #[test]
    fn whole_v6(sent in sent(protocol::ICMPV6)) { whole::<V6>(&sent) }
    #[test]
    fn damaged_v4(sent in sent(protocol::ICMP), (damage, cut) in damage()) { damaged::<V4>(&sent, &damage, cut) }
    #[test]
    fn damaged_v6(sent in sent(protocol::ICMPV6), (damage, cut) in damage()) { damaged::<V6>(&sent, &damage, cut) }
}
