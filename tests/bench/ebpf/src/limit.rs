//! The least that remembering a flow takes, without any NAT: what a gateway can hope for at best.

use sluice_bench_ebpf::Payload;

use crate::{
    FLOW_BUCKET_BITS, flow_buckets, flow_lines, flow_table,
    frame::{Frame, V4, V4_PROTOCOL, load},
};

/// Addresses, then ports and protocol, of a flow.
type Key = [u64; 2];

/// Finds the flow of an IPv4 packet in a table of the kernel's, of the same shape as a gateway's, and writes to its entry.
#[inline(always)]
pub fn look_up(frame: Frame) -> Option<()> {
    in_table(key(frame)?)
}

/// The same in a table of its own: a bucket is a cache line with two entries, each a key and two words; what finds no room goes to
/// the kernel's. No locks, since only one CPU has packets of the bench.
#[inline(always)]
pub fn search(frame: Frame) -> Option<()> {
    let key = key(frame)?;
    let bucket = flow_buckets.get_ptr_mut((hash(key) >> (u64::BITS - FLOW_BUCKET_BITS)) as u32)?;
    let bucket = bucket.cast::<u64>();
    for sought in [key, [0; 2]] {
        for entry in 0..2 {
            // SAFETY: two entries of four words are the map value.
            unsafe {
                let entry = bucket.add(entry * 4);
                if *entry == sought[0] && *entry.add(1) == sought[1] {
                    entry.cast::<Key>().write(key);
                    count(entry.add(2));
                    return Some(());
                }
            }
        }
    }
    in_table(key)
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
fn key(frame: Frame) -> Option<Key> {
    let start = frame.start(V4.least())?;
    // SAFETY: below the end, as just found.
    unsafe {
        let source = load::<u32>(start + V4.source);
        let destination = load::<u32>(start + V4.destination);
        let ports = load::<u32>(start + V4.transport);
        let protocol = load::<u8>(start + V4_PROTOCOL);
        Some([u64::from(source) | u64::from(destination) << 32, u64::from(ports) | u64::from(protocol) << 32])
    }
}

/// Multiplications by odd numbers without a pattern; the upper bits are the good ones.
#[inline(always)]
fn hash([addresses, rest]: Key) -> u64 {
    let mixed = (addresses ^ rest.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32) ^ rest).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[inline(always)]
fn in_table(key: Key) -> Option<()> {
    match flow_table.get_ptr_mut(key) {
        Some(entry) => count(entry.cast()),
        None => flow_table.insert(key, [0; 2], 0).ok()?,
    }
    Some(())
}

#[inline(always)]
fn count(word: *mut u64) {
    // SAFETY: the first eight bytes of a map value; only one CPU has packets of the bench.
    unsafe { word.write_volatile(word.read_volatile() + 1) };
}
