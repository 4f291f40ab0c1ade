//! Where the general path keeps what it works on.
//!
//! A chain of BPF subprograms has 512 bytes of stack, too little for IPv6 addresses in every frame. A per-CPU map value is the
//! larger room: programs at these hooks run with softirqs off and do not interrupt one another, and the hot path does not
//! use it. The sweep has a room of its own: before Linux 6.6 a test run leaves softirqs on, and the programs at the hooks
//! interrupt it.

use super::rewrite::To;
use crate::{
    maps::{FlowKey, FragmentKey, Owner, ReplyKey},
    packet::Packet,
    ports::Sequence,
};

/// Slot of the programs at the hooks.
pub const PACKET_SCRATCH: u32 = 0;
/// Slot of the sweep.
pub const SWEEP_SCRATCH: u32 = 1;
/// Number of slots.
pub const SCRATCH_SLOTS: usize = 2;

/// One packet's journey through the general path.
pub struct Scratch<A> {
    /// The packet.
    pub packet: Packet<A>,
    /// The packet that an ICMP error quotes.
    pub inner: Packet<A>,
    /// The client's view of the flow.
    pub flow: FlowKey<A>,
    /// The target's view of the flow.
    pub reply: ReplyKey<A>,
    /// The reservation of a flow in the making, while `reply` names another one.
    pub mine: ReplyKey<A>,
    /// The fragmented packet that this is a part of.
    pub fragment: FragmentKey<A>,
    /// The flow that a wanted reservation belongs to.
    pub rival: FlowKey<A>,
    /// Whose reservation is looked at, or made.
    pub owner: Owner<A>,
    /// What the packet's addresses and ports become.
    pub to: To<A>,
    /// What those of the quoted packet become.
    pub inner_to: To<A>,
    /// The neighbour that the packet is sent to.
    pub next_hop: A,
    /// Source of an ICMP error of our own.
    pub icmp_source: A,
    /// The client of the flow; in the forward direction the packet's source.
    pub client: A,
    /// The client's port.
    pub client_port: u16,
    /// The reserved source port.
    pub snat_port: u16,
    /// Slot of `targets`.
    pub target: u32,
    /// The device that the packet leaves by.
    pub ifindex: u32,
    /// MTU of that device, bytes of IP.
    pub mtu: u32,
    /// The search for a port.
    pub search: Search,
}

/// A search for a port.
#[derive(Clone, Copy)]
pub struct Search {
    /// The ports to try.
    pub ports: Sequence,
    /// How the search ended.
    pub found: u32,
    /// Last resorts met.
    pub candidates: u32,
    /// How long the best of them has been idle, plus one.
    pub candidate_idle: u32,
    /// Its port.
    pub candidate_port: u16,
    /// 1: take a last resort.
    pub desperate: u16,
}
