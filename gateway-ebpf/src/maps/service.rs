//! What is served, where it leads, and how much of it.

use bytemuck::{Pod, Zeroable};

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
