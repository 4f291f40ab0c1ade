//! Clocks: the one that the programs stamp entries with, and the one that the sweep's budget is counted by.

use std::time::Duration;

use sluice_gateway_ebpf::maps::clock_seconds;

/// Seconds of CLOCK_MONOTONIC as the programs count them.
pub fn monotonic_seconds() -> u32 {
    clock_seconds(read(libc::CLOCK_MONOTONIC).as_nanos() as u64)
}

/// Time that this thread has had on a CPU, in user space and in the kernel: on a busy node much less than has passed.
pub(super) fn thread_cpu_time() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours. The call cannot fail with these clocks, and would leave zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
