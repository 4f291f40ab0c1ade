//! Where things are in a frame of the benches, and access to them.

use aya_ebpf::programs::{TcContext, XdpContext};

/// Where things are, as offsets from the frame's start.
#[derive(Clone, Copy)]
pub struct Layout {
    pub source: usize,
    pub destination: usize,
    /// Bytes of an address.
    pub address: usize,
    pub transport: usize,
    pub hops: usize,
}

pub const V4: Layout = Layout { source: 26, destination: 30, address: 4, transport: 34, hops: 22 };
pub const V6: Layout = Layout { source: 22, destination: 38, address: 16, transport: 54, hops: 21 };
/// Offset of the IPv4 total length.
pub const V4_LENGTH: usize = 16;
/// Offset of the IPv4 protocol.
pub const V4_PROTOCOL: usize = 23;
/// Offset of the IPv4 header checksum.
pub const V4_CHECKSUM: usize = 24;
/// Offset of the IPv6 payload length.
pub const V6_LENGTH: usize = 18;
/// Bytes of a UDP header.
pub const UDP: usize = 8;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

impl Layout {
    /// Offset of the payload.
    #[inline(always)]
    pub const fn payload(self) -> usize {
        self.transport + UDP
    }

    /// Bytes of a frame with nothing behind the [`sluice_bench_ebpf::Payload`].
    #[inline(always)]
    pub const fn least(self) -> usize {
        self.payload() + size_of::<sluice_bench_ebpf::Payload>()
    }
}

/// The bytes of a frame that a program may access.
#[derive(Clone, Copy)]
pub struct Frame {
    data: usize,
    end: usize,
}

impl Frame {
    /// As an XDP program sees it.
    #[inline(always)]
    pub fn of_xdp(context: &XdpContext) -> Self {
        Self { data: context.data(), end: context.data_end() }
    }

    /// As a tc program sees it: the benches' packets are made in one piece, and stay so.
    #[inline(always)]
    pub fn of_tc(context: &TcContext) -> Self {
        Self { data: context.data(), end: context.data_end() }
    }

    /// Its start, if it has at least `length` bytes.
    #[inline(always)]
    pub fn start(self, length: usize) -> Option<usize> {
        (self.data + length <= self.end).then_some(self.data)
    }

    /// Number of bytes.
    #[inline(always)]
    pub const fn length(self) -> u64 {
        (self.end - self.data) as u64
    }
}

/// Reads a value of the packet. The target has no alignment requirement for packet accesses.
///
/// # Safety
/// The bytes lie below `data_end`.
#[inline(always)]
pub unsafe fn load<V: Copy>(at: usize) -> V {
    // SAFETY: as the caller promises.
    unsafe { *(at as *const V) }
}

/// Writes a value of the packet.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn store<V>(at: usize, value: V) {
    // SAFETY: as the caller promises.
    unsafe { *(at as *mut V) = value }
}

/// Folds a one's complement sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
