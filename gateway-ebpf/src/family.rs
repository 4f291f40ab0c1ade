//! The two IP families, so that everything else is written once.

pub use crate::address::Address;
use crate::{
    maps::{Reply, ReplyV4, ReplyV6},
    protocol,
};

/// IPv4 or IPv6.
pub trait Family: Copy + 'static {
    /// The family's address type.
    type Addr: Address;
    /// The value of the replies map, whose owner word differs in how it is guarded (see [`crate::maps::Reply`]).
    type Reply: Reply<Self::Addr>;
    /// EtherType, host byte order.
    const ETHERTYPE: u16;
    /// `AF_INET` or `AF_INET6`, as `bpf_redirect_neigh` wants it.
    const AF: u32;
    /// True for IPv4.
    const IS_V4: bool;
    /// Length of the IP header without options or extension headers.
    const HEADER: u32;
    /// The ICMP protocol that goes with the family.
    const ICMP: u8;
    /// Whether no client can have `address` as its own (multicast, broadcast, loopback, unspecified), or none that a router may
    /// forward (IPv6 link-local, RFC 4291, 2.5.6).
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
    type Reply = ReplyV4;
    const ETHERTYPE: u16 = 0x0800;
    const AF: u32 = 2;
    const IS_V4: bool = true;
    const HEADER: u32 = 20;
    const ICMP: u8 = protocol::ICMP;
    #[inline(always)]
    fn is_martian(address: &Self::Addr) -> bool {
        // 0/8, 127/8, and from 224/4 on (multicast, reserved, broadcast).
        address[0] == 0 || address[0] == 127 || address[0] >= 224
    }
}

impl Family for V6 {
    type Addr = [u8; 16];
    type Reply = ReplyV6;
    const ETHERTYPE: u16 = 0x86dd;
    const AF: u32 = 10;
    const IS_V4: bool = false;
    const HEADER: u32 = 40;
    const ICMP: u8 = protocol::ICMPV6;
    #[inline(always)]
    fn is_martian(address: &Self::Addr) -> bool {
        let [a, b, c, d] = address.words();
        // ff00::/8, fe80::/10, ::, ::1.
        address[0] == 0xff
            || (address[0] == 0xfe && address[1] & 0xc0 == 0x80)
            || (a | b | c == 0 && (d == 0 || d == 1u32.to_be()))
    }
}
