//! Transport headers: TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), and the type of ICMP messages.

use super::{Bytes, Packet, ParseError, fragment, protocol};
pub use crate::protocol::flags;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: u32 = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: u32 = 6;
/// Length of a TCP header without options.
pub const TCP_HEADER: u32 = 20;
/// SCTP's first chunk type in a packet that opens an association.
pub const SCTP_INIT: u8 = 1;

/// Fills in the transport fields of a packet that has a transport header.
///
/// # Errors
/// [`ParseError::NotOurs`] if there are not even ports.
#[inline(always)]
pub fn parse<A>(frame: &impl Bytes, packet: &mut Packet<A>) -> Result<(), ParseError> {
    let at = packet.transport;
    let available = packet.end.saturating_sub(at);
    if available < 8 {
        return Err(ParseError::NotOurs);
    }
    let Some(h) = frame.read::<8>(at) else { return Err(ParseError::NotOurs) };
    match packet.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            packet.source_port = u16::from_be_bytes([h[0], h[1]]);
            packet.destination_port = u16::from_be_bytes([h[2], h[3]]);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            packet.flags = h[0];
            return Ok(());
        }
        _ => return Err(ParseError::NotOurs),
    }
    let sound = match packet.protocol {
        protocol::TCP => tcp(frame, packet, available, [h[4], h[5], h[6], h[7]]),
        protocol::UDP => {
            packet.checksum = u16::from_ne_bytes([h[6], h[7]]);
            let length = u32::from(u16::from_be_bytes([h[4], h[5]]));
            // 0: a super-packet longer than the field can say.
            (length >= 8 || (length == 0 && frame.segment_size() != 0))
                && (length <= available || packet.fragment == fragment::FIRST)
        }
        _ => match frame.read::<1>(at + 12) {
            Some([chunk]) if available > 12 => {
                packet.flags = chunk;
                true
            }
            _ => false,
        },
    };
    packet.malformed = u8::from(!sound);
    Ok(())
}

/// The rest of a TCP header; false if it does not hold together.
#[inline(always)]
fn tcp<A>(frame: &impl Bytes, packet: &mut Packet<A>, available: u32, sequence: [u8; 4]) -> bool {
    let Some(h) = frame.read::<6>(packet.transport + 8) else { return false };
    packet.sequence = u32::from_be_bytes(sequence);
    packet.acknowledgement = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
    packet.header = (h[4] >> 4) * 4;
    packet.flags = h[5];
    u32::from(packet.header) >= TCP_HEADER && u32::from(packet.header) <= available
}
