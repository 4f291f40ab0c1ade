//! The two IP families, so that everything else is written once.

use bytemuck::Pod;

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
    fn is_zero(&self) -> bool {
        u32::from_ne_bytes(*self) == 0
    }
}

impl Address for [u8; 16] {
    const LEN: usize = 16;
    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *self;
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
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
}

impl Family for V6 {
    type Addr = [u8; 16];
    type Reply = crate::maps::ReplyV6;
    const ETHERTYPE: u16 = 0x86dd;
    const AF: u32 = 10;
    const IS_V4: bool = false;
}
