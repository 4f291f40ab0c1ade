//! Makes packets. Every header is written anew each time: the kernel hands out the pages of packets that are done with, and with them
//! what the gateway made of those.

use aya_ebpf::{
    bindings::xdp_action,
    cty::c_void,
    helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_redirect, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use sluice_bench_ebpf::{CLIENTS, HEADERS, MAGIC, Position, SIZES, Traffic};

use crate::{
    frame::{ETHERNET, Frame, Layout, UDP, V4, V4_CHECKSUM, V4_LENGTH, V6, V6_LENGTH, fold, store},
    position, traffic,
};

/// More looks at the clock than any packet waits for.
const LOOKS: u32 = 1 << 20;
/// Packets that may be late by so many intervals.
const LATE: u64 = 16;

/// Makes the next packet, and says what becomes of it.
#[inline(always)]
pub fn generate(context: &XdpContext) -> Option<u32> {
    let plan = traffic.get(0)?;
    let place = position.get_ptr_mut(0)?;
    // SAFETY: a map value that only the generator writes, on one CPU at a time.
    let (flow, size) = unsafe {
        let Position { packets, flow, size, .. } = *place;
        let next = flow + plan.stride;
        (*place).packets = packets + 1;
        (*place).flow = if next >= plan.flows { next - plan.flows } else { next };
        (*place).size = if size + 1 >= SIZES as u32 { 0 } else { size + 1 };
        (flow, size)
    };
    // SAFETY: as above.
    unsafe { wait(&mut *place) };
    let length = *plan.sizes.get(size as usize)?;
    let more = i32::from(length) - plan.largest as i32;
    // SAFETY: the context is valid for the whole run; the helper refuses what it cannot do.
    if more != 0 && unsafe { bpf_xdp_adjust_tail(context.ctx, more) } != 0 {
        return None;
    }
    // SAFETY: the helper takes nothing.
    let made = if plan.stamped == 0 { 0 } else { unsafe { bpf_ktime_get_ns() } };
    if plan.is_v6 == 0 {
        write(context, V4, plan, flow, made, length)?;
    } else {
        write(context, V6, plan, flow, made, length)?;
    }
    match plan.device {
        0 => Some(xdp_action::XDP_PASS),
        // SAFETY: the helper takes plain numbers.
        device => Some(unsafe { bpf_redirect(device, 0) as u32 }),
    }
}

/// Waits until the next packet is due, on the CPU: no sleep ends as punctually, and a call of the generator for each would take milliseconds,
/// since the kernel waits in each until no CPU is in the program any more.
#[inline(always)]
fn wait(place: &mut Position) {
    if place.interval == 0 {
        return;
    }
    // SAFETY: the helpers take plain numbers, and a pointer that is valid meanwhile.
    unsafe {
        let now = bpf_ktime_get_ns();
        // Late, since the CPU was taken away: what is due by now does not come all at once.
        if place.due == 0 || now > place.due + LATE * place.interval {
            place.due = now;
        }
        let mut due = place.due;
        bpf_loop(LOOKS, is_due as *mut c_void, (&raw mut due).cast(), 0);
        place.due += place.interval;
    }
}

/// Ends the waiting when it is time.
extern "C" fn is_due(_: u32, due: *const u64) -> i64 {
    // SAFETY: the pointer that the loop was given; the helper takes nothing.
    i64::from(unsafe { bpf_ktime_get_ns() >= *due })
}

#[inline(always)]
fn write(
    context: &XdpContext,
    layout: Layout,
    plan: &Traffic,
    flow: u32,
    made: u64,
    length: u16,
) -> Option<()> {
    let frame = Frame::of_xdp(context).start(layout.least())?;
    let client = ((flow % CLIENTS) as u16).to_be();
    // Checked, or the division would bring in a panic.
    let (client_port, port) = (flow.checked_div(plan.ports)?, flow.checked_rem(plan.ports)?);
    let port = ((plan.first_port + port) as u16).to_be();
    let client_port = ((plan.first_client_port + client_port) as u16).to_be();
    let ip_length = length - ETHERNET as u16;
    let udp_length = (length - layout.transport as u16).to_be();
    let varying = u64::from(client) + u64::from(port) + u64::from(client_port) + u64::from(flow);
    let sum = u64::from(plan.transport_sum) + varying + 2 * u64::from(udp_length);
    let check = !fold(sum + (made & 0xffff_ffff) + (made >> 32));
    // A store of eight bytes each, as many as fit before the end of the payload.
    let words = if layout.least() < HEADERS { HEADERS / 8 - 1 } else { HEADERS / 8 };
    // SAFETY: everything lies within the first bytes, which were found below `data_end`.
    unsafe {
        for (index, word) in plan.headers.iter().take(words).enumerate() {
            store(frame + index * 8, *word);
        }
        store(frame + layout.source + layout.address - 1, flow as u8);
        if layout.address == 4 {
            let ip_length = ip_length.to_be();
            let sum = u64::from(plan.network_sum) + u64::from(client) + u64::from(ip_length);
            store(frame + V4_LENGTH, ip_length);
            store(frame + V4_CHECKSUM, !fold(sum));
        } else {
            store(frame + V6_LENGTH, udp_length);
        }
        let udp = frame + layout.transport;
        store(udp, u32::from(client_port) | u32::from(port) << 16);
        // A sum of zero would mean that there is none (RFC 768).
        let check = if check == 0 { 0xffff } else { check };
        store(udp + 4, u32::from(udp_length) | u32::from(check) << 16);
        store(udp + UDP, flow);
        store(udp + UDP + 4, MAGIC);
        store(udp + UDP + 8, made as u32);
        store(udp + UDP + 12, (made >> 32) as u32);
    }
    Some(())
}
