//! Memory of a gateway pod: docs/memory.md has the measurements behind these figures.

use crate::ipam::Family;

/// Bytes of both entries of a flow.
const fn flow_bytes(family: Family) -> u64 {
    match family {
        Family::V4 => 192,
        Family::V6 => 256,
    }
}

/// What does not grow with the flows: targets, fragments, counters.
const FIXED_MIB: u64 = 6;
/// The daemon itself, what the kernel takes while it verifies the programs, the commands that are run beside it (probes, `status`, `flows`), and source
/// ranges, which are not preallocated.
const DAEMON_MIB: u64 = 64;

/// What the daemon needs to start.
const DAEMON_LEAST_MIB: u64 = 16;

/// Mebibytes of the pod below which its gateway does not start.
pub(super) fn least_mib(max_flows: u32, families: impl IntoIterator<Item = Family>) -> u64 {
    maps_mib(max_flows, families) + DAEMON_LEAST_MIB
}

/// Mebibytes that the maps take for `max_flows` of each of `families`.
fn maps_mib(max_flows: u32, families: impl IntoIterator<Item = Family>) -> u64 {
    // The kernel's tables have a power of two of places.
    let flows = u64::from(max_flows).next_power_of_two();
    let bytes: u64 = families.into_iter().map(|family| flows * flow_bytes(family)).sum();
    bytes.div_ceil(1 << 20) + FIXED_MIB
}

/// Mebibytes of the pod.
pub(super) fn pod_mib(max_flows: u32, families: impl IntoIterator<Item = Family>) -> u64 {
    maps_mib(max_flows, families) + DAEMON_MIB
}
