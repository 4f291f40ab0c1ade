//! The clock that the programs stamp entries with.

/// CLOCK_MONOTONIC in whole seconds, as the programs see it (`bpf_ktime_get_coarse_ns` and kin).
pub fn monotonic_seconds() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The call cannot fail with this clock, and would leave zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u32
}
