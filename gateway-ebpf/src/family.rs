//! The two IP families, so that everything else is written once.

use bytemuck::Pod;

use crate::packet::{Bytes, Packet, ParseError, ipv4, ipv6, protocol};

mod sealed {
    /// The layouts of the maps are checked for these types only.
    pub trait Sealed {}
    impl Sealed for [u8; 4] {}
    impl Sealed for [u8; 16] {}
}

/// An IP address as it stands in a packet and in the maps: big-endian bytes.
pub trait Address: sealed::Sealed + Pod + Eq + Default + core::fmt::Debug {
    /// Bytes in one address: 4 or 16.
    const LEN: usize;
    /// The address as big-endian 32-bit words in memory order, unused words zero. What checksums add up.
    fn words(&self) -> [u32; 4];
    /// The address made of big-endian words in memory order; the inverse of [`Address::words`].
    fn from_words(words: [u32; 4]) -> Self;
    /// Whether every byte is zero, which in the maps means "unset".
    fn is_zero(&self) -> bool;
}

impl Address for [u8; 4] {
    const LEN: usize = 4;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        [u32::from_ne_bytes(*self), 0, 0, 0]
    }
    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        words[0].to_ne_bytes()
    }
    #[inline(always)]
    fn is_zero(&self) -> bool {
        u32::from_ne_bytes(*self) == 0
    }
}

impl Address for [u8; 16] {
    const LEN: usize = 16;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        // One copy: taken apart byte by byte, an address would fill the BPF stack.
        bytemuck::cast(*self)
    }
    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        bytemuck::cast(words)
    }
    #[inline(always)]
    fn is_zero(&self) -> bool {
        let [a, b, c, d] = self.words();
        (a | b | c | d) == 0
    }
}

/// IPv4 or IPv6.
pub trait Family: Copy + 'static {
    /// The family's address type.
    type Addr: Address;
    /// The value of the replies map, whose owner word differs in how it is guarded (see [`crate::maps::Reply`]).
    type Reply: crate::maps::Reply<Self::Addr>;
    /// EtherType, host byte order.
    const ETHERTYPE: u16;
    /// `AF_INET` or `AF_INET6`, as `bpf_redirect_neigh` wants it.
    const AF: u32;
    /// True for IPv4.
    const IS_V4: bool;
    /// Length of the fixed IP header.
    const HEADER: u32;
    /// The ICMP protocol that goes with the family.
    const ICMP: u8;
    /// Parses the network header at offset `at` of a frame into `packet`; `quoted`: of a packet in an ICMP error, which may be cut short.
    ///
    /// # Errors
    /// [`ParseError`], see there.
    fn parse_network(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<Self::Addr>,
    ) -> Result<(), ParseError>;
    /// Whether no client can have `address` as its own (multicast, broadcast, loopback, unspecified).
    fn is_martian(address: &Self::Addr) -> bool;
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;
/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl Family for V4 {
    type Addr = [u8; 4];
    type Reply = crate::maps::ReplyV4;
    const ETHERTYPE: u16 = 0x0800;
    const AF: u32 = 2;
    const IS_V4: bool = true;
    const HEADER: u32 = ipv4::HEADER;
    const ICMP: u8 = protocol::ICMP;
    #[inline(always)]
    fn parse_network(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<Self::Addr>,
    ) -> Result<(), ParseError> {
        ipv4::parse(frame, at, quoted, packet)
    }
    #[inline(always)]
    fn is_martian(address: &Self::Addr) -> bool {
        // 0/8, 127/8, and from 224/4 on (multicast, reserved, broadcast).
        address[0] == 0 || address[0] == 127 || address[0] >= 224
    }
}

impl Family for V6 {
    type Addr = [u8; 16];
    type Reply = crate::maps::ReplyV6;
    const ETHERTYPE: u16 = 0x86dd;
    const AF: u32 = 10;
    const IS_V4: bool = false;
    const HEADER: u32 = ipv6::HEADER;
    const ICMP: u8 = protocol::ICMPV6;
    #[inline(always)]
    fn parse_network(
        frame: &impl Bytes,
        at: u32,
        quoted: bool,
        packet: &mut Packet<Self::Addr>,
    ) -> Result<(), ParseError> {
        ipv6::parse(frame, at, quoted, packet)
    }
    #[inline(always)]
    fn is_martian(address: &Self::Addr) -> bool {
        let [a, b, c, d] = address.words();
        // ff00::/8, ::, ::1.
        address[0] == 0xff || (a | b | c == 0 && (d == 0 || d == 1u32.to_be()))
    }
}
