//! The IPv6 header and its extension headers (RFC 8200).

use super::{Bytes, Packet, ParseError, fragment};

/// Length of the header.
pub const HEADER: u32 = 40;
/// Offset of the hop limit in the header.
pub const HOP_LIMIT: u32 = 7;
/// Offset of the source address; the destination follows it.
pub const SOURCE: u32 = 8;
/// Extension headers that are walked before a packet is refused.
pub const MAX_EXTENSIONS: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses the IPv6 header at offset `at` into `packet` and walks to the transport header. `quoted`: the packet stands in an ICMP error,
/// which may cut it short.
///
/// # Errors
/// [`ParseError`], see there.
#[inline(always)]
pub fn parse(
    frame: &impl Bytes,
    at: u32,
    quoted: bool,
    packet: &mut Packet<[u8; 16]>,
) -> Result<(), ParseError> {
    let h: [u8; 8] = frame.read(at).ok_or(ParseError::NotOurs)?;
    if h[0] >> 4 != 6 {
        return Err(ParseError::NotOurs);
    }
    let end = match u32::from(u16::from_be_bytes([h[4], h[5]])) {
        // A super-packet longer than the field can say (BIG TCP).
        0 if frame.segment_size() != 0 => frame.length(),
        _ if quoted => frame.length(),
        payload => at + HEADER + payload,
    };
    if end > frame.length() {
        return Err(ParseError::NotOurs);
    }
    *packet = Packet {
        transport: at + HEADER,
        end,
        protocol: h[6],
        ttl: h[7],
        dont_fragment: 1,
        ..Packet::default()
    };
    packet.source = frame.read(at + SOURCE).ok_or(ParseError::NotOurs)?;
    packet.destination = frame.read(at + SOURCE + 16).ok_or(ParseError::NotOurs)?;
    walk(frame, packet)
}

/// Moves `packet.transport` and `packet.protocol` past the extension headers.
#[inline(never)]
fn walk(frame: &impl Bytes, packet: &mut Packet<[u8; 16]>) -> Result<(), ParseError> {
    for _ in 0..MAX_EXTENSIONS {
        let kind = packet.protocol;
        if !matches!(kind, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok(());
        }
        let Some([next, length, c, d]) = frame.read::<4>(packet.transport) else {
            return Err(ParseError::NotOurs);
        };
        packet.protocol = next;
        if kind == FRAGMENT {
            let Some(id) = frame.read(packet.transport + 4) else { return Err(ParseError::NotOurs) };
            packet.id = u32::from_be_bytes(id);
            let flags = u16::from_be_bytes([c, d]);
            packet.fragment_offset = flags & !7;
            packet.fragment = match (packet.fragment_offset, flags & 1) {
                // An "atomic" fragment is a whole packet (RFC 6946).
                (0, 0) => fragment::NONE,
                (0, _) => fragment::FIRST,
                _ => fragment::LATER,
            };
            packet.transport += 8;
            if packet.fragment == fragment::LATER {
                // What follows is not looked at, so that this is where a header behind the packet's end, in what pads the frame,
                // shows.
                return if packet.transport > packet.end { Err(ParseError::NotOurs) } else { Ok(()) };
            }
        } else {
            // Byte 3 of a routing header: segments left.
            if kind == ROUTING && d != 0 {
                return Err(ParseError::SourceRoute);
            }
            packet.transport += (u32::from(length) + 1) * 8;
        }
    }
    Err(ParseError::ExtensionHeaders)
}
