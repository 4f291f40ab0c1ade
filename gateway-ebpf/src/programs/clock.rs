//! The clock of every time stamp in the maps.

use core::sync::atomic::AtomicU64;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::maps::clock_seconds;

/// The last reading: seconds in the lower half, in the upper half the tick (the kernel's jiffies) in which the clock was read.
///
/// The coarse clock moves once per tick, so within one it need not be read again. That costs a call of several functions,
/// while the jiffies are a plain load, which the verifier puts in the place of the helper's call.
static READING: AtomicU64 = AtomicU64::new(0);

/// CLOCK_MONOTONIC in coarse seconds, at most one tick late.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper has no arguments and no side effects.
    let tick = unsafe { bpf_jiffies64() } as u32;
    // SAFETY: the word is aligned and lives as long as the program. Volatile in place of atomic, which the BPF target cannot compile.
    let reading = unsafe { READING.as_ptr().read_volatile() };
    if (reading >> 32) as u32 == tick {
        return reading as u32;
    }
    // SAFETY: as above.
    let seconds = clock_seconds(unsafe { bpf_ktime_get_coarse_ns() });
    // SAFETY: as above.
    unsafe { READING.as_ptr().write_volatile(u64::from(tick) << 32 | u64::from(seconds)) };
    seconds
}
