//! Packets as bytes, read and built independently of the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The Internet checksum (RFC 1071) of the concatenation of `parts`, each of which but the last has an even length. Zero
/// when the parts contain a right checksum.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Next header of an IPv6 fragment header (RFC 8200).
const V6_FRAGMENT: u8 = 44;

/// Whether a transport checksum could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// The packet is cut off, or carries none.
    Unknown,
}

/// A packet quoted in an ICMP error, or another that may be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of the whole packet, as the IP header says.
    pub length: usize,
    /// Bytes that are there.
    pub quoted: usize,
    /// Whether the IP header's checksum is right; IPv6 has none.
    pub header_checksum: bool,
    /// The transport checksum.
    pub checksum: Checksum,
}

impl Inner {
    /// Reads an IP packet whose end may be missing; `None` where even the ports are missing.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (header, protocol, ttl, length, source, destination): (_, _, _, _, IpAddr, IpAddr) =
            match packet.first()? >> 4 {
                4 => {
                    let header = packet.get(..usize::from(packet.first()? & 0xf) * 4)?;
                    let source: [u8; 4] = header.get(12..16)?.try_into().ok()?;
                    let destination: [u8; 4] = header.get(16..20)?.try_into().ok()?;
                    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                    (
                        header,
                        header[9],
                        header[8],
                        length,
                        Ipv4Addr::from(source).into(),
                        Ipv4Addr::from(destination).into(),
                    )
                }
                6 => {
                    let header = packet.get(..40)?;
                    let source: [u8; 16] = header[8..24].try_into().ok()?;
                    let destination: [u8; 16] = header[24..40].try_into().ok()?;
                    let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
                    (
                        header,
                        header[6],
                        header[7],
                        length,
                        Ipv6Addr::from(source).into(),
                        Ipv6Addr::from(destination).into(),
                    )
                }
                _ => return None,
            };
        let mut transport = packet.get(header.len()..)?;
        let (mut protocol, mut whole) = (protocol, true);
        if let (V6_FRAGMENT, Some((&[next, _, high, low, ..], rest))) =
            (protocol, transport.split_first_chunk::<8>())
        {
            (protocol, transport) = (next, rest);
            // Offset and "more fragments".
            whole = u16::from_be_bytes([high, low]) & !6 == 0;
        }
        let (&[a, b, c, d], _) = transport.split_first_chunk::<4>()?;
        let checksum = if whole {
            transport_checksum(protocol, source, destination, transport, length - header.len())
        } else {
            Checksum::Unknown
        };
        Some(Self {
            source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
            protocol,
            ttl,
            length,
            quoted: packet.len(),
            header_checksum: header.len() == 40 || internet_checksum(&[header]) == 0,
            checksum,
        })
    }
}

fn transport_checksum(
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    transport: &[u8],
    length: usize,
) -> Checksum {
    let Some(transport) = transport.get(..length) else { return Checksum::Unknown };
    if protocol == 17 && transport.get(6..8) == Some(&[0, 0]) {
        return Checksum::Unknown;
    }
    let pseudo = pseudo_header(protocol, source, destination, length);
    if internet_checksum(&[&pseudo, transport]) == 0 { Checksum::Right } else { Checksum::Wrong }
}

/// The pseudo header of TCP, UDP and ICMPv6 checksums (RFC 9293, RFC 8200); the order of its fields does not matter.
fn pseudo_header(protocol: u8, source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    let mut pseudo = Vec::with_capacity(40);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => pseudo.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => pseudo.extend_from_slice(&address.octets()),
        }
    }
    pseudo.extend_from_slice(&(length as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo
}

/// Whether an ICMPv6 message has the right checksum.
pub fn icmp_v6_is_right(source: IpAddr, destination: IpAddr, message: &[u8]) -> bool {
    internet_checksum(&[&pseudo_header(58, source, destination, message.len()), message]) == 0
}

/// The MSS option of a TCP header.
pub fn mss(tcp: &[u8]) -> Option<u16> {
    let mut options = tcp.get(20..usize::from(tcp.get(12)? >> 4) * 4)?;
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
            [_] => return None,
        }
    }
}

/// The kinds of a TCP header's options, in order, padding included.
pub fn option_kinds(tcp: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    let end = tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let mut options = tcp.get(20..end).unwrap_or_default();
    while let Some((&kind, rest)) = options.split_first() {
        kinds.push(kind);
        let length = if kind < 2 { 1 } else { usize::from(rest.first().copied().unwrap_or(0)).max(2) };
        options = options.get(length..).unwrap_or_default();
    }
    kinds
}

/// A UDP header and its payload, with the checksum.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&source.port().to_be_bytes());
    bytes.extend_from_slice(&destination.port().to_be_bytes());
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    let sum = internet_checksum(&[&pseudo_header(17, source.ip(), destination.ip(), length), &bytes]);
    let sum = if sum == 0 { 0xffff } else { sum };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A TCP segment without payload, with an MSS option where it is a SYN.
pub fn tcp(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
) -> Vec<u8> {
    let options: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 0xb4] } else { &[] };
    let length = 20 + options.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&source.port().to_be_bytes());
    bytes.extend_from_slice(&destination.port().to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&acknowledgement.to_be_bytes());
    bytes.extend_from_slice(&[(length as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(options);
    let sum = internet_checksum(&[&pseudo_header(6, source.ip(), destination.ip(), length), &bytes]);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// An IP packet that carries `transport`; empty where the families differ.
pub fn whole(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            v4_fragment(source, destination, protocol, 0, 0, false, transport)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = v6_header(source, destination, protocol, transport.len());
            packet.extend_from_slice(transport);
            packet
        }
        _ => Vec::new(),
    }
}

fn v6_header(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload as u16).to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet
}

/// IP packets that carry `transport` in fragments of at most `size` bytes each, a multiple of 8.
pub fn fragments(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u16,
    transport: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let count = transport.len().div_ceil(size);
    transport
        .chunks(size)
        .enumerate()
        .map(|(index, part)| {
            let (offset, more) = ((index * size) as u16, index + 1 < count);
            match (source, destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    v4_fragment(source, destination, protocol, id, offset, more, part)
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    v6_fragment(source, destination, protocol, id, offset, more, part)
                }
                _ => Vec::new(),
            }
        })
        .collect()
}

fn v4_fragment(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    id: u16,
    offset: u16,
    more: bool,
    part: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&((20 + part.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    let sum = internet_checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(part);
    packet
}

fn v6_fragment(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    id: u16,
    offset: u16,
    more: bool,
    part: &[u8],
) -> Vec<u8> {
    let mut packet = v6_header(source, destination, V6_FRAGMENT, 8 + part.len());
    packet.extend_from_slice(&[protocol, 0]);
    packet.extend_from_slice(&(offset | u16::from(more)).to_be_bytes());
    packet.extend_from_slice(&u32::from(id).to_be_bytes());
    packet.extend_from_slice(part);
    packet
}
