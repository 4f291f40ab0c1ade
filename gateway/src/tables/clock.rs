//! The clock that the programs stamp entries with.

use sluice_gateway_ebpf::maps::clock_seconds;

/// Seconds of CLOCK_MONOTONIC as the programs count them.
pub fn monotonic_seconds() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The call cannot fail with this clock, and would leave zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    clock_seconds(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
