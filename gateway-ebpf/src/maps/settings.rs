//! What user space tells the programs.

use bytemuck::{Pod, Zeroable};

use super::Timeouts;

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

/// Token bucket of the ICMP errors that one CPU sends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IcmpBudget {
    /// CLOCK_MONOTONIC second that `spent` belongs to.
    pub second: u32,
    /// Errors sent in that second.
    pub spent: u32,
}
