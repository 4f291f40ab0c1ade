//! What must hold of the packet parser, whatever frame it is given.

use sluice_gateway_ebpf::family::{V4, V6};
use sluice_gateway_ebpf::packet::{ETHERNET, Network, Packet, fragment, parse, protocol, transport};

/// Bytes of an ICMP header before the packet that an error quotes.
const QUOTE: u32 = 8;

/// Parses `frame` as a packet of either family.
///
/// # Panics
/// The parser leaves the frame, or tells different things of the same packet.
pub fn check(frame: &[u8]) {
    check_as::<V4>(frame);
    check_as::<V6>(frame);
}

fn check_as<N: Network>(frame: &[u8]) {
    let mut packet = Packet::default();
    let outcome = parse::<N>(&frame, &mut packet);

    // The programs parse into the room of the packet before.
    let mut reused = dirty::<N>();
    assert_eq!(parse::<N>(&frame, &mut reused), outcome);
    if outcome.is_err() {
        return;
    }
    assert_eq!(reused, packet, "something is left of an earlier packet");

    let length = frame.len() as u32;
    assert!(
        ETHERNET < packet.transport && packet.transport <= packet.end && packet.end <= length,
        "{packet:?}"
    );
    assert_eq!(packet.length(), packet.end - ETHERNET);
    if packet.fragment == fragment::LATER {
        assert_eq!((packet.source_port, packet.destination_port), (0, 0), "{packet:?}");
    } else {
        assert!(packet.transport + 8 <= packet.end, "{packet:?}");
    }
    let known = [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::ICMP, protocol::ICMPV6];
    assert!(packet.fragment == fragment::LATER || known.contains(&packet.protocol), "{packet:?}");
    if packet.malformed == 0 && packet.protocol == protocol::TCP && packet.fragment != fragment::LATER {
        let header = u32::from(packet.header);
        assert!(header >= transport::TCP_HEADER && packet.transport + header <= packet.end, "{packet:?}");
    }

    // What a device pads a frame with is not part of the packet. Nobody looks at the rest of a malformed header.
    let mut bare = Packet::default();
    assert_eq!(parse::<N>(&&frame[..packet.end as usize], &mut bare), Ok(()));
    assert_eq!(bare.malformed, packet.malformed, "padding was taken for a header");
    assert!(packet.malformed != 0 || bare == packet, "padding was read: {bare:?} {packet:?}");

    if packet.protocol == N::ICMP && packet.fragment != fragment::LATER {
        let mut inner = dirty::<N>();
        if N::parse(&frame, packet.transport + QUOTE, true, &mut inner).is_ok() {
            assert!(inner.transport > packet.transport + QUOTE, "{inner:?}");
            assert_eq!(inner.end, length, "{inner:?}");
        }
    }
}

/// A packet of which no field is what the parser begins with.
fn dirty<N: Network>() -> Packet<N::Addr> {
    Packet {
        transport: u32::MAX,
        end: u32::MAX,
        id: u32::MAX,
        sequence: u32::MAX,
        acknowledgement: u32::MAX,
        source_port: u16::MAX,
        destination_port: u16::MAX,
        fragment_offset: u16::MAX,
        checksum: u16::MAX,
        protocol: u8::MAX,
        ttl: u8::MAX,
        flags: u8::MAX,
        header: u8::MAX,
        fragment: u8::MAX,
        dont_fragment: u8::MAX,
        malformed: u8::MAX,
        ..Packet::default()
    }
}
