//! Frames for the tests, and an independent reading of what came out.

use etherparse::{
    Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TcpHeader, TransportSlice, UdpHeader,
    ip_number,
};
use sluice_gateway_ebpf::family::Family;

use crate::rig::Net;

/// An Ethernet header to the loopback device, whose address is all zero.
pub fn ethernet<F: Family>() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(F::ETHERTYPE.to_be_bytes());
    frame
}

/// A TCP segment to be put together.
#[derive(Clone)]
pub struct Tcp<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    /// Any of "SAFRP".
    pub flags: &'a str,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// Raw options, a multiple of four bytes.
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Self {
            source_port: 40000,
            destination_port: crate::rig::VIP_PORT,
            flags: "A",
            sequence: 1000,
            acknowledgement: 0,
            options: &[],
            payload: &[],
        }
    }
}

/// The IP header's fields that tests vary.
#[derive(Clone, Copy)]
pub struct Ip {
    pub ttl: u8,
    pub dont_fragment: bool,
}

impl Default for Ip {
    fn default() -> Self {
        Self { ttl: 64, dont_fragment: true }
    }
}

/// A frame with an IP packet around `transport` bytes.
pub fn ip<N: Net>(source: N::Addr, destination: N::Addr, protocol: u8, transport: &[u8], ip: Ip) -> Vec<u8> {
    let mut frame = ethernet::<N>();
    let (source, destination) = (bytemuck::bytes_of(&source), bytemuck::bytes_of(&destination));
    if N::IS_V4 {
        let mut header = Ipv4Header::new(
            transport.len() as u16,
            ip.ttl,
            protocol.into(),
            source.try_into().unwrap(),
            destination.try_into().unwrap(),
        )
        .unwrap();
        header.dont_fragment = ip.dont_fragment;
        header.identification = 0x1234;
        header.header_checksum = header.calc_header_checksum();
        header.write(&mut frame).unwrap();
    } else {
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: transport.len() as u16,
            next_header: protocol.into(),
            hop_limit: ip.ttl,
            source: source.try_into().unwrap(),
            destination: destination.try_into().unwrap(),
        };
        header.write(&mut frame).unwrap();
    }
    frame.extend(transport);
    frame
}

/// The bytes of a TCP segment with its checksum.
pub fn tcp_bytes<N: Net>(source: N::Addr, destination: N::Addr, tcp: &Tcp<'_>) -> Vec<u8> {
    let mut header = TcpHeader::new(tcp.source_port, tcp.destination_port, tcp.sequence, 64_000);
    for flag in tcp.flags.chars() {
        match flag {
            'S' => header.syn = true,
            'A' => header.ack = true,
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            other => panic!("flag {other}"),
        }
    }
    header.acknowledgment_number = tcp.acknowledgement;
    header.set_options_raw(tcp.options).unwrap();
    let (source, destination) = (bytemuck::bytes_of(&source), bytemuck::bytes_of(&destination));
    header.checksum = if N::IS_V4 {
        header.calc_checksum_ipv4_raw(
            source.try_into().unwrap(),
            destination.try_into().unwrap(),
            tcp.payload,
        )
    } else {
        header.calc_checksum_ipv6_raw(
            source.try_into().unwrap(),
            destination.try_into().unwrap(),
            tcp.payload,
        )
    }
    .unwrap();
    let mut bytes = Vec::new();
    header.write(&mut bytes).unwrap();
    bytes.extend(tcp.payload);
    bytes
}

/// A frame with a TCP segment.
pub fn tcp<N: Net>(source: N::Addr, destination: N::Addr, tcp: &Tcp<'_>) -> Vec<u8> {
    ip::<N>(source, destination, 6, &tcp_bytes::<N>(source, destination, tcp), Ip::default())
}

/// The bytes of a UDP datagram with its checksum.
pub fn udp_bytes<N: Net>(
    source: N::Addr,
    destination: N::Addr,
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let (source, destination) = (bytemuck::bytes_of(&source), bytemuck::bytes_of(&destination));
    let mut header = UdpHeader::without_ipv4_checksum(ports.0, ports.1, payload.len()).unwrap();
    header.checksum = if N::IS_V4 {
        header.calc_checksum_ipv4_raw(source.try_into().unwrap(), destination.try_into().unwrap(), payload)
    } else {
        header.calc_checksum_ipv6_raw(source.try_into().unwrap(), destination.try_into().unwrap(), payload)
    }
    .unwrap();
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(payload);
    bytes
}

/// A frame with a UDP datagram.
pub fn udp<N: Net>(source: N::Addr, destination: N::Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ip::<N>(source, destination, 17, &udp_bytes::<N>(source, destination, ports, payload), Ip::default())
}

/// What an independent parser reads in a frame, all checksums having been recomputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    pub ttl: u8,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Vec<u8>,
}

/// Reads a frame and recomputes every checksum in it.
pub fn read(frame: &[u8]) -> Read {
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let (source, destination, ttl, protocol) = match packet.net.as_ref().expect("an IP packet") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "IPv4 header checksum");
            (header.source.to_vec(), header.destination.to_vec(), header.time_to_live, header.protocol)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            (header.source.to_vec(), header.destination.to_vec(), header.hop_limit, ip.payload().ip_number)
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let addresses = (source.as_slice(), destination.as_slice());
    let (source_port, destination_port, payload) = match packet.transport.expect("a transport header") {
        TransportSlice::Tcp(tcp) => {
            let expected = match addresses.0.len() {
                4 => tcp.to_header().calc_checksum_ipv4_raw(
                    addresses.0.try_into().unwrap(),
                    addresses.1.try_into().unwrap(),
                    tcp.payload(),
                ),
                _ => tcp.to_header().calc_checksum_ipv6_raw(
                    addresses.0.try_into().unwrap(),
                    addresses.1.try_into().unwrap(),
                    tcp.payload(),
                ),
            };
            assert_eq!(expected.unwrap(), tcp.checksum(), "TCP checksum");
            (tcp.source_port(), tcp.destination_port(), tcp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => {
            if udp.checksum() != 0 {
                let expected = match addresses.0.len() {
                    4 => udp.to_header().calc_checksum_ipv4_raw(
                        addresses.0.try_into().unwrap(),
                        addresses.1.try_into().unwrap(),
                        udp.payload(),
                    ),
                    _ => udp.to_header().calc_checksum_ipv6_raw(
                        addresses.0.try_into().unwrap(),
                        addresses.1.try_into().unwrap(),
                        udp.payload(),
                    ),
                };
                assert_eq!(expected.unwrap(), udp.checksum(), "UDP checksum");
            }
            (udp.source_port(), udp.destination_port(), udp.payload().to_vec())
        }
        TransportSlice::Icmpv4(icmp) => {
            let expected = icmp.header().icmp_type.calc_checksum(icmp.payload());
            assert_eq!(expected, icmp.checksum(), "ICMP checksum");
            (0, 0, icmp.payload().to_vec())
        }
        TransportSlice::Icmpv6(icmp) => {
            assert!(
                icmp.is_checksum_valid(addresses.0.try_into().unwrap(), addresses.1.try_into().unwrap()),
                "ICMPv6 checksum"
            );
            (0, 0, icmp.payload().to_vec())
        }
        other => panic!("a transport header that no test makes: {other:?}"),
    };
    let protocol: u8 = protocol.0;
    debug_assert_ne!(protocol, ip_number::IPV6_FRAGMENTATION_HEADER.0);
    Read { source, destination, ttl, protocol, source_port, destination_port, payload }
}
