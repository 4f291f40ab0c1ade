//! The IPv4 header (RFC 791).

use super::{Bytes, Packet, ParseError, fragment};

/// Length of the header without options.
pub const HEADER: u32 = 20;
/// Offset of the TTL in the header.
pub const TTL: u32 = 8;
/// Offset of the header checksum.
pub const CHECKSUM: u32 = 10;
/// Offset of the source address; the destination follows it.
pub const SOURCE: u32 = 12;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOOP: u8 = 1;
const OPTION_LOOSE_ROUTE: u8 = 131;
const OPTION_STRICT_ROUTE: u8 = 137;

/// Parses the IPv4 header at offset `at` into `packet`. `quoted`: the packet stands in an ICMP error, which may cut it short.
///
/// # Errors
/// [`ParseError::NotOurs`] if it does not hold together, [`ParseError::SourceRoute`].
#[inline(always)]
pub fn parse(
    frame: &impl Bytes,
    at: u32,
    quoted: bool,
    packet: &mut Packet<[u8; 4]>,
) -> Result<(), ParseError> {
    let h: [u8; 20] = frame.read(at).ok_or(ParseError::NotOurs)?;
    let header = u32::from(h[0] & 0xf) * 4;
    if h[0] >> 4 != 4 || header < HEADER {
        return Err(ParseError::NotOurs);
    }
    let end = match u32::from(u16::from_be_bytes([h[2], h[3]])) {
        // A super-packet longer than the field can say (BIG TCP).
        0 if frame.segment_size() != 0 => frame.length(),
        _ if quoted => frame.length(),
        total => at + total,
    };
    if end > frame.length() || end < at + header {
        return Err(ParseError::NotOurs);
    }
    if header > HEADER && !quoted && has_source_route(frame, at, header) {
        return Err(ParseError::SourceRoute);
    }
    let flags = u16::from_be_bytes([h[6], h[7]]);
    let fragment_offset = (flags & OFFSET) << 3;
    *packet = Packet {
        source: [h[12], h[13], h[14], h[15]],
        destination: [h[16], h[17], h[18], h[19]],
        transport: at + header,
        end,
        id: u32::from(u16::from_be_bytes([h[4], h[5]])),
        fragment_offset,
        protocol: h[9],
        ttl: h[8],
        fragment: match (fragment_offset, flags & MORE_FRAGMENTS) {
            (0, 0) => fragment::NONE,
            (0, _) => fragment::FIRST,
            _ => fragment::LATER,
        },
        dont_fragment: u8::from(flags & DONT_FRAGMENT != 0),
        ..Packet::default()
    };
    Ok(())
}

/// Whether the options ask for a route of their own. Such packets are refused, as Linux does unless told otherwise
/// (`accept_source_route`).
#[inline(never)]
fn has_source_route(frame: &impl Bytes, at: u32, header: u32) -> bool {
    let mut offset = HEADER;
    // 40 bytes of options hold at most 40 of them.
    for _ in 0..40 {
        if offset >= header {
            return false;
        }
        let Some([kind]) = frame.read(at + offset) else { return false };
        match kind {
            OPTION_END => return false,
            OPTION_NOOP => offset += 1,
            OPTION_LOOSE_ROUTE | OPTION_STRICT_ROUTE => return true,
            _ => {
                let Some([length]) = frame.read(at + offset + 1) else { return false };
                if length < 2 {
                    return false;
                }
                offset += u32::from(length);
            }
        }
    }
    false
}
