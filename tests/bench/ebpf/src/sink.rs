//! Takes packets, counts them, and looks closely at some.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sluice_bench_ebpf::{CHECKED_EACH, FLOW_BITS, MAGIC, Payload, Tally, WATCHED_PORTS, Wrong, bucket};

use crate::{
    expected,
    frame::{Frame, Layout, UDP, V4, V4_PROTOCOL, V6, fold, load},
    latencies, owners, tally,
};

const ETHERTYPE: usize = 12;
const V4_FIRST: usize = 14;
const V6_NEXT_HEADER: usize = 20;
const UDP_PROTOCOL: u8 = 17;

/// Takes the packet if it is a bench's.
#[inline(always)]
pub fn take(frame: Frame) -> Option<()> {
    let start = frame.start(V4.least())?;
    // SAFETY: below the end, as just found.
    let (ethertype, first, protocol) = unsafe {
        let ethertype: u16 = load(start + ETHERTYPE);
        (u16::from_be(ethertype), load::<u8>(start + V4_FIRST), load::<u8>(start + V4_PROTOCOL))
    };
    match ethertype {
        0x0800 if first == 0x45 && protocol == UDP_PROTOCOL => count(frame, V4),
        0x86dd => {
            let start = frame.start(V6.least())?;
            // SAFETY: as above.
            let next = unsafe { load::<u8>(start + V6_NEXT_HEADER) };
            if next == UDP_PROTOCOL { count(frame, V6) } else { None }
        }
        _ => None,
    }
}

#[inline(always)]
fn count(frame: Frame, layout: Layout) -> Option<()> {
    let start = frame.start(layout.least())?;
    // SAFETY: below the end, as just found.
    let payload: Payload = unsafe { load(start + layout.payload()) };
    if payload.magic != MAGIC {
        return None;
    }
    let seen = tally.get_ptr_mut(0)?;
    // SAFETY: a value of this CPU's own; programs on one CPU do not interrupt one another.
    let seen = unsafe { &mut *seen };
    seen.packets += 1;
    seen.bytes += frame.length();
    let made = u64::from(payload.made[0]) | u64::from(payload.made[1]) << 32;
    if made != 0 {
        // SAFETY: the helper takes nothing.
        let latency = unsafe { bpf_ktime_get_ns() }.saturating_sub(made);
        if let Some(packets) = latencies.get_ptr_mut(bucket(latency)) {
            // SAFETY: as above.
            unsafe { *packets += 1 };
        }
    }
    if seen.packets % CHECKED_EACH == 0 {
        check(start, layout, payload.flow, seen);
    }
    Some(())
}

/// Compares a packet with what it should be.
#[inline(always)]
fn check(frame: usize, layout: Layout, flow: u32, seen: &mut Tally) {
    let Some(want) = expected.get(0) else { return };
    let Some(index) = flow.checked_rem(want.ports) else { return };
    seen.checked += 1;
    let mut wrong = |is_wrong: bool, fault: Wrong| seen.wrong[fault as usize] += u64::from(is_wrong);
    let (mut source_differs, mut destination_differs, mut pseudo) = (0, 0, 0_u64);
    // SAFETY: the caller has found all of this below the end.
    let (ports, rest, hops) = unsafe {
        for word in 0..layout.address / 4 {
            let source: u32 = load(frame + layout.source + word * 4);
            let destination: u32 = load(frame + layout.destination + word * 4);
            source_differs |= (source ^ want.source[word]) & want.source_mask[word];
            destination_differs |= destination ^ want.destination[word];
            pseudo += u64::from(source) + u64::from(destination);
        }
        let udp = frame + layout.transport;
        (load::<u32>(udp), load::<u32>(udp + 4), load::<u8>(frame + layout.hops))
    };
    let (source_port, port) = (u16::from_be(ports as u16), u16::from_be((ports >> 16) as u16));
    wrong(source_differs != 0, Wrong::Source);
    wrong(destination_differs != 0, Wrong::Destination);
    wrong(u32::from(port) != want.first_port + index, Wrong::Port);
    wrong(u32::from(hops) != want.hops, Wrong::Hops);
    wrong(layout.address == 4 && network_sum(frame) != 0xffff, Wrong::NetworkChecksum);
    let length = rest as u16;
    let protocol = u16::from(UDP_PROTOCOL).to_be();
    let mut sum = pseudo + u64::from(length) + u64::from(protocol) + u64::from(ports) + u64::from(rest);
    for word in 0..size_of::<Payload>() / 4 {
        // SAFETY: as above.
        sum += u64::from(unsafe { load::<u32>(frame + layout.transport + UDP + word * 4) });
    }
    wrong(fold(sum) != 0xffff, Wrong::TransportChecksum);
    if want.generation != 0 && want.ports <= WATCHED_PORTS {
        let slot = (index & (WATCHED_PORTS - 1)) << 16 | u32::from(source_port);
        if let Some(owner) = owners.get_ptr_mut(slot) {
            let this = want.generation << FLOW_BITS | flow;
            // SAFETY: a map value that only the sink writes.
            unsafe {
                let is_known = *owner >> FLOW_BITS == want.generation;
                wrong(is_known && *owner != this, Wrong::SharedPort);
                *owner = this;
            }
        }
    }
}

/// The folded sum of an IPv4 header with its checksum.
#[inline(always)]
fn network_sum(frame: usize) -> u16 {
    let mut sum = 0;
    for word in 0..5 {
        // SAFETY: the caller has found the header below the end.
        sum += u64::from(unsafe { load::<u32>(frame + 14 + word * 4) });
    }
    fold(sum)
}
