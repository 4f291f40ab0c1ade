//! What the benches' programs and the process that drives them share: the values of their maps, and how latencies are counted.
//!
//! A bench's packet is UDP. Its payload begins with a [`Payload`], by which the sink knows it; what follows is zero.
#![cfg_attr(target_arch = "bpf", no_std)]

use bytemuck::{Pod, Zeroable};

/// Frame sizes take turns in this many steps: the usual mix of Internet packets has twelve, 7 small, 4 medium, 1 large.
pub const SIZES: usize = 12;
/// Bytes of a frame that is all headers: Ethernet, IPv6 and UDP, rounded up to words of eight bytes.
pub const HEADERS: usize = 64;
/// The most flows that a bench sends.
pub const MOST_FLOWS: u32 = 1 << 20;
/// Clients that flows are spread over: as many as the last byte of an address has values.
pub const CLIENTS: u32 = 256;
/// One in this many packets is checked byte for byte. Prime to every number of flows, so that each flow has its turn.
pub const CHECKED_EACH: u64 = 61;
/// `Payload::magic`.
pub const MAGIC: u32 = 0x51_1c_e0_5a;
/// Service ports of which the sink remembers which flow has which source port.
pub const WATCHED_PORTS: u32 = 32;
/// Buckets of the latencies, see [`bucket`].
pub const BUCKETS: u32 = 4096;

/// What follows the UDP header. Native byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Payload {
    /// Number of the flow.
    pub flow: u32,
    /// [`MAGIC`].
    pub magic: u32,
    /// When it was made, nanoseconds of the monotonic clock, in two halves since the payload is not aligned; 0: not told.
    pub made: [u32; 2],
}

/// The value of `traffic`: what the generator makes.
///
/// Flow `n` goes to service port `n % ports`, from source port `first_client_port + n / ports` and the client with the number `n` (its
/// last byte). Sums are one's complement sums of words as they lie in memory, of what does not change from packet to packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Traffic {
    /// The headers, with zero where packets differ.
    pub headers: [u64; HEADERS / 8],
    /// 1: packets say when they were made.
    pub stamped: u64,
    /// Sum of the IPv4 header.
    pub network_sum: u32,
    /// Sum of pseudo-header, UDP header and payload.
    pub transport_sum: u32,
    /// 1 for IPv6.
    pub is_v6: u32,
    /// Number of flows.
    pub flows: u32,
    /// From one packet's flow to the next one's; less than `flows`, and prime to it.
    pub stride: u32,
    /// Number of service ports.
    pub ports: u32,
    /// The first of them, host byte order.
    pub first_port: u32,
    /// Source port of the first flows, host byte order.
    pub first_client_port: u32,
    /// Index of the device that frames are sent to; 0: they are received by the device that the run names.
    pub device: u32,
    /// Frame sizes, bytes, taking turns.
    pub sizes: [u16; SIZES],
    /// The largest of them, as which a frame comes.
    pub largest: u32,
}

/// The value of `position`: where the generator is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Position {
    /// Packets made.
    pub packets: u64,
    /// From one packet to the next, nanoseconds; 0: as fast as it goes.
    pub interval: u64,
    /// When the next packet is due, nanoseconds of the monotonic clock; 0: now.
    pub due: u64,
    /// Flow of the next one.
    pub flow: u32,
    /// Index of its size.
    pub size: u32,
}

/// The value of `expected`: what must have become of a packet. Addresses are big-endian words, IPv4 in the first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Expected {
    /// Destination address.
    pub destination: [u32; 4],
    /// Source address, where `source_mask` has ones.
    pub source: [u32; 4],
    /// Which bits of the source address are known.
    pub source_mask: [u32; 4],
    /// Number of service ports.
    pub ports: u32,
    /// Destination port of the first service port, host byte order.
    pub first_port: u32,
    /// TTL or hop limit.
    pub hops: u32,
    /// Source ports are chosen by the gateway, and no two flows to one port may have the same; counts the choices of traffic, below
    /// 4096, since the same flow has another number in the next. 0: source ports are the clients' own.
    pub generation: u32,
}

/// Bits of a flow's number in the values of `owners`; above them is the generation.
pub const FLOW_BITS: u32 = 20;

/// A way in which a packet is not what it should be; the index of its counter in [`Tally::wrong`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Destination address.
    Destination,
    /// Source address.
    Source,
    /// Destination port.
    Port,
    /// TTL or hop limit.
    Hops,
    /// IPv4 header checksum.
    NetworkChecksum,
    /// UDP checksum.
    TransportChecksum,
    /// Two flows have one source port.
    SharedPort,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Destination,
        Self::Source,
        Self::Port,
        Self::Hops,
        Self::NetworkChecksum,
        Self::TransportChecksum,
        Self::SharedPort,
    ];
}

/// The value of `tally`: what the sink has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Their bytes, with the Ethernet header.
    pub bytes: u64,
    /// Packets checked.
    pub checked: u64,
    /// Faults found, by [`Wrong`].
    pub wrong: [u64; Wrong::ALL.len()],
}

// SAFETY: `repr(C)` without padding, valid for any bytes.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Traffic {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Position {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Expected {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Tally {}

/// Steps that each power of two is divided into, as a power of two: a bucket is at most 1.6 % wide.
const STEPS: u32 = 6;

/// The bucket in which a latency is counted.
#[inline(always)]
pub const fn bucket(nanoseconds: u64) -> u32 {
    if nanoseconds < 1 << STEPS {
        return nanoseconds as u32;
    }
    let shift = 63 - nanoseconds.leading_zeros() - STEPS;
    (shift << STEPS) + (nanoseconds >> shift) as u32
}

/// The middle of a bucket, nanoseconds.
pub const fn latency(bucket: u32) -> f64 {
    if bucket < 1 << (STEPS + 1) {
        return bucket as f64;
    }
    let shift = (bucket >> STEPS) - 1;
    let low = ((bucket - (shift << STEPS)) as u64) << shift;
    low as f64 + (1_u64 << shift) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_one_percent() {
        for nanoseconds in (0..10_000).chain([99_999, 1_000_000, 123_456_789, u64::MAX / 3]) {
            let found = latency(bucket(nanoseconds));
            let error = (found - nanoseconds as f64).abs();
            assert!(error <= nanoseconds as f64 * 0.01, "{nanoseconds}: {found}");
            assert!(bucket(nanoseconds) < BUCKETS);
        }
    }

    #[test]
    fn buckets_are_in_order() {
        let buckets: Vec<u32> = (0..100_000).map(bucket).collect();
        assert!(buckets.is_sorted());
    }
}
