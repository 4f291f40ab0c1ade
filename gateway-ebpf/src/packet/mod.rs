//! Parsing: from the bytes of an Ethernet frame to the fields that NAT decides on.
//!
//! The parser reads through [`Bytes`], so that the programs read from the kernel's packet and tests from a slice.

pub mod ipv4;
pub mod ipv6;
#[cfg(test)]
mod tests;
pub mod transport;

use crate::family::{Family, V4, V6};
pub use crate::protocol;

/// Length of an Ethernet header.
pub const ETHERNET: u32 = 14;

/// Something that packet bytes are read from.
pub trait Bytes {
    /// `N` bytes at `offset` from the start of the frame; `None` beyond its end.
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// Length of the frame in bytes.
    fn length(&self) -> u32;
    /// Payload bytes per segment of a GSO super-packet; 0: an ordinary packet.
    fn segment_size(&self) -> u32;
}

impl Bytes for &[u8] {
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = offset as usize;
        self.get(start..start.checked_add(N)?)?.try_into().ok()
    }
    fn length(&self) -> u32 {
        self.len() as u32
    }
    fn segment_size(&self) -> u32 {
        0
    }
}

/// What stands between two people who both call it "the packet".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not a packet that could be ours: another protocol, or too broken to tell whose it is. The kernel decides.
    NotOurs,
    /// More extension headers than are walked.
    ExtensionHeaders,
    /// A source route.
    SourceRoute,
}

/// Where a packet stands in a fragmented one.
pub mod fragment {
    /// Not a fragment.
    pub const NONE: u8 = 0;
    /// The first one.
    pub const FIRST: u8 = 1;
    /// A later one: no transport header.
    pub const LATER: u8 = 2;
}

/// The fields of a packet that NAT decides on. Offsets are in bytes from the start of the frame; ports, sequence numbers and
/// lengths in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Offset of the transport header.
    pub transport: u32,
    /// Offset of the end of the IP packet (a frame may be padded beyond it).
    pub end: u32,
    /// Identification of a fragmented packet.
    pub id: u32,
    /// TCP sequence number.
    pub sequence: u32,
    /// TCP acknowledgement number.
    pub acknowledgement: u32,
    /// Source port; 0 if there is none.
    pub source_port: u16,
    /// Destination port; 0 if there is none.
    pub destination_port: u16,
    /// Offset of this fragment's data in the whole packet, bytes.
    pub fragment_offset: u16,
    /// The transport checksum as it lies in memory; of UDP only: 0 says that there is none.
    pub checksum: u16,
    /// Transport protocol.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags, see [`transport::flags`]; ICMP: the type; SCTP: the type of the first chunk.
    pub flags: u8,
    /// Length of the TCP header.
    pub header: u8,
    /// One of [`fragment`].
    pub fragment: u8,
    /// 1: IPv4's don't-fragment bit, and always for IPv6.
    pub dont_fragment: u8,
    /// 1: the transport header does not hold together.
    pub malformed: u8,
}

impl<A> Packet<A> {
    /// Length of the IP packet in bytes.
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        self.end - ETHERNET
    }
}

/// A family whose headers can be parsed.
pub trait Network: Family {
    /// Parses the network header at offset `at` of a frame into `packet`; `quoted`: of a packet in an ICMP error, which may be cut
    /// short.
    ///
    /// # Errors
    /// [`ParseError`], see there.
    fn parse(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<Self::Addr>,
    ) -> Result<(), ParseError>;
}

impl Network for V4 {
    #[inline(always)]
    fn parse(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<[u8; 4]>,
    ) -> Result<(), ParseError> {
        ipv4::parse(frame, at, quoted, packet)
    }
}

impl Network for V6 {
    #[inline(always)]
    fn parse(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<[u8; 16]>,
    ) -> Result<(), ParseError> {
        ipv6::parse(frame, at, quoted, packet)
    }
}

/// Parses a frame of family `F`, whose EtherType the caller has checked, into `packet`; in place, since the BPF stack has no room for
/// a second one.
///
/// # Errors
/// [`ParseError`], see there.
#[inline(always)]
pub fn parse<F: Network>(frame: &impl Bytes, packet: &mut Packet<F::Addr>) -> Result<(), ParseError> {
    F::parse(frame, ETHERNET, false, packet)?;
    if packet.fragment != fragment::LATER {
        transport::parse(frame, packet)?;
    }
    Ok(())
}
