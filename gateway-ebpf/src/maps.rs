//! Keys and values of the BPF maps: what the programs and user space share, and what `bpftool map dump` shows.
//!
//! Conventions: addresses are big-endian bytes as in a packet; ports and all other numbers are in host byte order, so
//! that a dump reads naturally; all zero means unset; padding is explicit and always zero, since keys are compared as
//! bytes. Per-family maps carry the suffix `_v4` or `_v6`; the kernel cuts names at 15 characters.
//!
//! | map               | type          | key              | value            |
//! |-------------------|---------------|------------------|------------------|
//! | `services_v4/6`   | HASH          | [`ServiceKey`]   | [`Service`]      |
//! | `targets_v4/6`    | ARRAY         | target id        | [`Target`]       |
//! | `flows_v4/6`      | HASH          | [`FlowKey`]      | [`Flow`]         |
//! | `replies_v4/6`    | HASH          | [`ReplyKey`]     | [`ReplyV4`]/[`ReplyV6`] |
//! | `fragments_v4/6`  | LRU_HASH      | [`FragmentKey`]  | [`Fragment`]     |
//! | `ranges_v4/6`     | LPM_TRIE      | prefix length in bits (of service id and address), then [`RangeKey`] | u32, always 1 |
//! | `service_stats`   | PERCPU_ARRAY  | service id       | [`ServiceStats`] |
//! | `drops`           | PERCPU_ARRAY  | [`crate::verdict::Drop`] | u64 packets |
//! | `config`          | ARRAY         | 0                | [`Config`]       |
//! | `icmp_budget`     | PERCPU_ARRAY  | 0                | [`IcmpBudget`]   |

use bytemuck::{Pod, Zeroable};

use crate::{conntrack::State, family::Address};

/// Part of the pin path. Raised whenever a key, a value or the meaning of a field changes.
pub const SCHEMA_VERSION: u32 = 1;

/// Names of the maps that both families share.
pub const SHARED_MAPS: [&str; 4] = ["service_stats", "drops", "config", "icmp_budget"];
/// Names, without the `_v4`/`_v6` suffix, of the maps that each family in use has of its own.
pub const FAMILY_MAPS: [&str; 6] = ["services", "targets", "flows", "replies", "fragments", "ranges"];

/// Slots of `targets_v4/6`. Slot 0 is never used: a zero target id means unset.
pub const MAX_TARGETS: u32 = 16_384;
/// Slots of `service_stats`, one per service port. Slot 0 is never used.
pub const MAX_SERVICES: u32 = 4_096;
/// Slots of `fragments_v4/6`.
pub const MAX_FRAGMENTS: u32 = 8_192;
/// Entries of `ranges_v4/6`.
pub const MAX_RANGES: u32 = 65_536;
/// Flows per family unless the configuration says otherwise.
pub const DEFAULT_MAX_FLOWS: u32 = 262_144;

/// Key of `services_v4/6`: what a client addresses.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceKey<A> {
    /// The VIP.
    pub vip: A,
    /// The service port, host byte order.
    pub port: u16,
    /// IP protocol number: 6, 17 or 132.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// A service port that accepts new flows. Its targets are `first_target .. first_target + target_count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Service {
    /// Slot of `service_stats`, and the prefix of this service's entries in `ranges`.
    pub id: u32,
    /// First slot of `targets`.
    pub first_target: u16,
    /// Number of targets; 0 refuses new flows.
    pub target_count: u16,
    /// See [`SERVICE_HAS_RANGES`].
    pub flags: u32,
    /// Raised on each edit of this service port.
    pub generation: u32,
}

/// [`Service::flags`]: only clients found in `ranges` may open a flow.
pub const SERVICE_HAS_RANGES: u32 = 1;

/// [`Target::state`]: the slot was never used, or is free again.
pub const TARGET_UNSET: u8 = 0;
/// [`Target::state`]: in use by a service.
pub const TARGET_ACTIVE: u8 = 1;
/// [`Target::state`]: the service now points elsewhere. TCP and SCTP flows finish here; UDP flows move at once.
pub const TARGET_DRAINING: u8 = 2;
/// [`Target::state`]: the service port is gone. Its packets are no longer ours; flows that name it are swept.
pub const TARGET_REMOVED: u8 = 3;

/// One way to serve a service port: where to send, from which address, and how to get there and back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target<A> {
    /// The address that packets are forwarded to, today the ClusterIP.
    pub address: A,
    /// The source address that the target sees.
    pub snat: A,
    /// The address that clients see.
    pub vip: A,
    /// Netmask of the VIP's subnet: clients inside it are neighbours on the external link.
    pub vip_mask: A,
    /// Next hop on the cluster link; zero: the target itself is on-link.
    pub cluster_next_hop: A,
    /// Next hop on the external link for clients outside the VIP's subnet; zero: there is none.
    pub external_next_hop: A,
    /// Port of `address`, host byte order.
    pub port: u16,
    /// Port of `vip`, host byte order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// One of the `TARGET_*` states.
    pub state: u8,
    /// Zero.
    pub pad: u16,
    /// The service's id, a slot of `service_stats`.
    pub service: u32,
    /// Raised each time the slot is used anew.
    pub generation: u32,
}

/// Key of `flows_v4/6`: the client's view of a flow.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// The client's address.
    pub client: A,
    /// The VIP.
    pub vip: A,
    /// The client's port, host byte order.
    pub client_port: u16,
    /// The service port, host byte order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Value of `flows_v4/6`. The first eight bytes are changed only by compare-and-swap of the whole word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// The reserved source port towards the target, host byte order.
    pub snat_port: u16,
    /// Slot of `targets`.
    pub target: u16,
    /// [`flow_check`] of the key: tells a recycled map element from the one that was looked up.
    pub check: u16,
    /// A [`crate::conntrack::State`].
    pub state: u8,
    /// Zero.
    pub pad: u8,
    /// Last packet from the client, and bytes: see [`Activity`]. While a TCP handshake is open the bytes are instead the
    /// acknowledgement number that completes it; once closed, the client's last sequence number.
    pub activity: u64,
}

/// Key of `replies_v4/6`: the target's view of a flow. The entry is the reservation of `snat_port`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplyKey<A> {
    /// The target's address.
    pub target: A,
    /// The source address that the target sees.
    pub snat: A,
    /// The target's port, host byte order.
    pub target_port: u16,
    /// The reserved source port, host byte order.
    pub snat_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Whose a reservation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner<A> {
    /// The client's address.
    pub client: A,
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`; 0: the reservation is free, [`OWNER_LOCKED`]: it is about to be deleted.
    pub target: u16,
}

/// [`Owner::target`] of a reservation that the sweep is deleting.
pub const OWNER_LOCKED: u16 = u16::MAX;

/// Value of `replies_v4`. The owner, the first eight bytes, is read and compare-and-swapped as one word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReplyV4 {
    /// The client's address.
    pub client: [u8; 4],
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`: see [`Owner::target`].
    pub target: u16,
    /// Last packet from the target, and bytes: see [`Activity`].
    pub activity: u64,
}

/// Value of `replies_v6`. The first eight bytes are compare-and-swapped as one word; `client` is valid while `epoch` is even
/// and the same before and after it is read.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReplyV6 {
    /// The client's port, host byte order.
    pub client_port: u16,
    /// Slot of `targets`: see [`Owner::target`].
    pub target: u16,
    /// Raised by one before and by one after each change of owner.
    pub epoch: u32,
    /// Last packet from the target, and bytes: see [`Activity`].
    pub activity: u64,
    /// The client's address.
    pub client: [u8; 16],
}

/// What both families' reply values have in common, for readers that hold a copy (user space, or an entry being made).
pub trait Reply<A>: Pod {
    /// A fresh reservation.
    fn new(owner: &Owner<A>, activity: Activity) -> Self;
    /// The owner as this copy has it.
    fn owner(&self) -> Owner<A>;
    /// Last packet and bytes.
    fn activity(&self) -> Activity;
}

impl Reply<[u8; 4]> for ReplyV4 {
    #[inline(always)]
    fn new(owner: &Owner<[u8; 4]>, activity: Activity) -> Self {
        Self {
            client: owner.client,
            client_port: owner.client_port,
            target: owner.target,
            activity: activity.0,
        }
    }
    #[inline(always)]
    fn owner(&self) -> Owner<[u8; 4]> {
        Owner { client: self.client, client_port: self.client_port, target: self.target }
    }
    #[inline(always)]
    fn activity(&self) -> Activity {
        Activity(self.activity)
    }
}

impl Reply<[u8; 16]> for ReplyV6 {
    #[inline(always)]
    fn new(owner: &Owner<[u8; 16]>, activity: Activity) -> Self {
        Self {
            client_port: owner.client_port,
            target: owner.target,
            epoch: 0,
            activity: activity.0,
            client: owner.client,
        }
    }
    #[inline(always)]
    fn owner(&self) -> Owner<[u8; 16]> {
        Owner { client: self.client, client_port: self.client_port, target: self.target }
    }
    #[inline(always)]
    fn activity(&self) -> Activity {
        Activity(self.activity)
    }
}

/// The fields of [`Flow`] that change only together: its first eight bytes as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHead(pub u64);

impl FlowHead {
    /// Packs the fields.
    #[inline(always)]
    pub const fn new(snat_port: u16, target: u16, check: u16, state: State) -> Self {
        Self(snat_port as u64 | (target as u64) << 16 | (check as u64) << 32 | (state as u64) << 48)
    }
    /// [`Flow::snat_port`].
    #[inline(always)]
    pub const fn snat_port(self) -> u16 {
        self.0 as u16
    }
    /// [`Flow::target`].
    #[inline(always)]
    pub const fn target(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// [`Flow::check`].
    #[inline(always)]
    pub const fn check(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// [`Flow::state`].
    #[inline(always)]
    pub const fn state(self) -> State {
        State::from_raw((self.0 >> 48) as u8)
    }
    /// The same flow in another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: State) -> Self {
        Self(self.0 & !(0xff << 48) | (state as u64) << 48)
    }
}

impl Flow {
    /// The head as one word.
    pub const fn head(&self) -> FlowHead {
        FlowHead(
            self.snat_port as u64
                | (self.target as u64) << 16
                | (self.check as u64) << 32
                | (self.state as u64) << 48,
        )
    }
}

/// Coarse seconds of a CLOCK_MONOTONIC reading in nanoseconds: the clock of every time stamp in the maps. Without a
/// division, which costs the packet path 10 ns; slow by 8 parts in 10^8.
#[inline(always)]
pub const fn clock_seconds(nanoseconds: u64) -> u32 {
    (((nanoseconds >> 20) * 1_125_900) >> 30) as u32
}

/// When an entry last saw a packet, and how many bytes it has seen, in one word that one store updates.
///
/// Upper 24 bits: [`clock_seconds`] modulo 2^24 (194 days). Lower 40 bits: bytes of IP packets, saturating at
/// 1 TiB - 1.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Activity(pub u64);

impl Activity {
    /// Bits of the byte counter.
    pub const BYTE_BITS: u32 = 40;
    /// Largest value of the byte counter.
    pub const MAX_BYTES: u64 = (1 << Self::BYTE_BITS) - 1;
    /// Bits of the clock.
    pub const CLOCK_MASK: u32 = (1 << 24) - 1;

    /// A word for `seconds` (CLOCK_MONOTONIC) and `bytes`.
    #[inline(always)]
    pub const fn new(seconds: u32, bytes: u64) -> Self {
        let bytes = if bytes > Self::MAX_BYTES { Self::MAX_BYTES } else { bytes };
        Self(((seconds & Self::CLOCK_MASK) as u64) << Self::BYTE_BITS | bytes)
    }
    /// Bytes seen.
    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        self.0 & Self::MAX_BYTES
    }
    /// Seconds from the last packet to `now`, by the clock modulo 2^24. A stamp slightly ahead of `now` (another CPU's
    /// clock) counts as 0.
    #[inline(always)]
    pub const fn idle(self, now: u32) -> u32 {
        let seen = (self.0 >> Self::BYTE_BITS) as u32;
        let idle = now.wrapping_sub(seen) & Self::CLOCK_MASK;
        if idle > Self::CLOCK_MASK / 2 { 0 } else { idle }
    }
    /// The word after a packet that is not counted, at `now`: the low bits hold something else than bytes.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, now: u32) -> Self {
        Self::new(now, self.bytes())
    }
    /// The word after a packet of `bytes` at `now`.
    #[inline(always)]
    pub const fn after(self, now: u32, bytes: u32) -> Self {
        Self::new(now, self.bytes() + bytes as u64)
    }
}

/// Key of `fragments_v4/6`: one fragmented packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey<A> {
    /// Source address as received.
    pub source: A,
    /// Destination address as received.
    pub destination: A,
    /// The identification field, host byte order.
    pub id: u32,
    /// IP protocol number (IPv6: the one in the fragment header).
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What the first fragment decided for those that follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment<A> {
    /// The flow's client.
    pub client: A,
    /// Slot of `targets`.
    pub target: u32,
    /// CLOCK_MONOTONIC seconds when the entry was made.
    pub created: u32,
}

/// Data of a key of `ranges_v4/6`: big-endian, since LPM tries match from the first byte on.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RangeKey<A> {
    /// The service's id, big-endian; always matched whole (32 bits of the prefix length).
    pub service: [u8; 4],
    /// Client prefix.
    pub client: A,
}

/// Counters of one service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceStats {
    /// Packets from clients that were forwarded; a GSO super-packet counts as its segments.
    pub forward_packets: u64,
    /// IP bytes of those packets.
    pub forward_bytes: u64,
    /// Packets from targets that were forwarded.
    pub reverse_packets: u64,
    /// IP bytes of those packets.
    pub reverse_bytes: u64,
    /// Flows made.
    pub flows_opened: u64,
    /// Flows deleted; opened minus closed, summed over CPUs, are the flows in the table.
    pub flows_closed: u64,
}

/// Settings of the programs, one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// Interface index of the external link (`net1`).
    pub external_ifindex: u32,
    /// Interface index of the cluster link (`eth0`).
    pub cluster_ifindex: u32,
    /// MTU of the external link, bytes of IP.
    pub external_mtu: u32,
    /// MTU of the cluster link, bytes of IP.
    pub cluster_mtu: u32,
    /// ICMP errors per second and CPU that the programs may send; 0: none.
    pub icmp_rate: u32,
    /// Zero.
    pub pad: u32,
    /// Idle times after which a flow is dead.
    pub timeouts: Timeouts,
}

/// Idle times in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP handshake not completed by the client.
    pub tcp_half_open: u32,
    /// TCP established.
    pub tcp_established: u32,
    /// TCP after the first FIN.
    pub tcp_fin: u32,
    /// TCP after both FINs, the target's first: how long the target may stay in TIME_WAIT. The reservation rests as long.
    pub tcp_time_wait: u32,
    /// TCP after a RST, or after both FINs with the client's first. The reservation rests as long.
    pub tcp_closed: u32,
    /// UDP, no answer or no second exchange yet.
    pub udp_unreplied: u32,
    /// UDP streams.
    pub udp_stream: u32,
    /// SCTP, no answer yet.
    pub sctp_unreplied: u32,
    /// SCTP, answered.
    pub sctp_established: u32,
    /// Zero.
    pub pad: u32,
}

impl Timeouts {
    /// Netfilter's values, where it has the state (nf_conntrack_proto_{tcp,udp,sctp}.c, Linux 6.18).
    pub const DEFAULT: Self = Self {
        tcp_half_open: 60,
        tcp_established: 432_000,
        tcp_fin: 120,
        tcp_time_wait: 60,
        tcp_closed: 10,
        udp_unreplied: 30,
        udp_stream: 120,
        sctp_unreplied: 30,
        sctp_established: 210,
        pad: 0,
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Token bucket of the ICMP errors that one CPU sends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IcmpBudget {
    /// CLOCK_MONOTONIC second that `spent` belongs to.
    pub second: u32,
    /// Errors sent in that second.
    pub spent: u32,
}

/// EtherType of a request to the sweep programs (IEEE 802.1, local experiments): a frame with zero addresses, one byte of
/// operation, one of count, then as many keys.
pub const SWEEP_ETHERTYPE: u16 = 0x88b5;
/// Most keys in one request.
pub const SWEEP_MAX_KEYS: u32 = 64;
/// Operation: delete the named flows that are dead.
pub const SWEEP_EXPIRED: u8 = 1;
/// Operation: delete the named flows.
pub const SWEEP_FLUSH: u8 = 2;
/// Operation: delete the named reservations that are free or orphaned, for two seconds or longer.
pub const SWEEP_REPLIES: u8 = 3;

/// 16 bits made of a flow key's client, kept in the value. See [`Flow::check`].
#[inline(always)]
pub fn flow_check<A: Address>(key: &FlowKey<A>) -> u16 {
    let [a, b, c, d] = key.client.words();
    let word = a ^ b ^ c ^ d ^ (u32::from(key.client_port) << 8);
    (word ^ (word >> 16)) as u16
}

/// Names the layouts that the kernel relies on, and lets user space read them as bytes.
macro_rules! layout {
    ($($name:ident = $v4:literal, $v6:literal;)+) => { $(
        const _: () = assert!(size_of::<$name<[u8; 4]>>() == $v4 && size_of::<$name<[u8; 16]>>() == $v6);
        // SAFETY: every field is Pod. `Address` is sealed to the two types that the assertion checks, and it leaves no room
        // for padding beyond the named fields.
        unsafe impl<A: Address> Zeroable for $name<A> {}
        // SAFETY: as above.
        unsafe impl<A: Address> Pod for $name<A> {}
        #[cfg(feature = "user")]
        // SAFETY: `bytemuck::Pod` holds, which asks for more than `aya::Pod`.
        unsafe impl<A: Address> aya::Pod for $name<A> {}
    )+ };
}

layout! {
    ServiceKey = 8, 20;
    Target = 40, 112;
    FlowKey = 16, 40;
    ReplyKey = 16, 40;
    FragmentKey = 16, 40;
    Fragment = 12, 24;
    RangeKey = 8, 20;
}

#[cfg(target_endian = "big")]
compile_error!("FlowHead and the owner words are laid out for little-endian machines");

const _: () = assert!(size_of::<Flow>() == 16 && size_of::<ReplyV4>() == 16 && size_of::<ReplyV6>() == 32);

#[cfg(feature = "user")]
macro_rules! user_pod {
    ($($name:ty),+) => { $(
        // SAFETY: `bytemuck::Pod` holds, which asks for more than `aya::Pod`.
        unsafe impl aya::Pod for $name {}
    )+ };
}
#[cfg(feature = "user")]
user_pod!(Service, Flow, ReplyV4, ReplyV6, ServiceStats, Config, IcmpBudget);
