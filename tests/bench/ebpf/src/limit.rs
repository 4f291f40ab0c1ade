//! The least that remembering a flow takes, without any NAT: what a gateway can hope for at best.

use sluice_bench_ebpf::Payload;

use crate::{
    flow_lines, flow_table,
    frame::{Frame, V4, V4_PROTOCOL, load},
};

/// Finds the flow of an IPv4 packet in a table of the kernel's, of the same shape as a gateway's, and writes to its entry.
#[inline(always)]
pub fn look_up(frame: Frame) -> Option<()> {
    let start = frame.start(V4.least())?;
    // SAFETY: below the end, as just found.
    let key: [u32; 4] = unsafe {
        let protocol = load::<u8>(start + V4_PROTOCOL);
        [
            load(start + V4.source),
            load(start + V4.destination),
            load(start + V4.transport),
            u32::from(protocol),
        ]
    };
    match flow_table.get_ptr_mut(key) {
        Some(entry) => count(entry.cast()),
        None => flow_table.insert(key, [0; 2], 0).ok()?,
    }
    Some(())
}

/// Writes to the one cache line that a flow has in an array, at the number that the packet itself tells: no search.
#[inline(always)]
pub fn touch(frame: Frame) -> Option<()> {
    let start = frame.start(V4.least())?;
    // SAFETY: below the end, as just found.
    let payload: Payload = unsafe { load(start + V4.payload()) };
    count(flow_lines.get_ptr_mut(payload.flow)?.cast());
    Some(())
}

#[inline(always)]
fn count(word: *mut u64) {
    // SAFETY: the first eight bytes of a map value; only one CPU has packets of the bench.
    unsafe { word.write_volatile(word.read_volatile() + 1) };
}
