//! The flow of a packet from a target.

use super::{
    CONTINUE, PASS, dropped,
    flow::owner_flow,
    now,
    tables::{Addr, Guarded, Scratch, Tables, config, head, swap_head},
};
use crate::{
    conntrack::{Direction, State},
    maps::{Activity, Flow, FlowHead, ReplyKey},
    packet::{Packet, protocol, transport::flags},
    verdict::Drop,
};

/// The target's view of a packet that came from it.
#[inline(always)]
pub(super) fn key_of<A: Copy>(packet: &Packet<A>) -> ReplyKey<A> {
    ReplyKey {
        target: packet.source,
        snat: packet.destination,
        target_port: packet.source_port,
        snat_port: packet.destination_port,
        protocol: u32::from(packet.protocol),
    }
}

/// Finds the flow of a packet that has a transport header: client, target and ports. Whatever is not a reply to a living flow
/// is the kernel's: it answers for the pod.
#[inline(never)]
pub(super) fn plan<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let packet = &scratch.packet;
    scratch.reply = key_of(packet);
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return PASS };
    let flow = match owner_flow::<T>(scratch, reply) {
        Ok(flow) => flow,
        Err(verdict) => return verdict,
    };
    let current = head(flow);
    let Some(config) = config::<T>() else { return PASS };
    let now = now();
    let word = T::Family::activity(reply);
    // SAFETY: both lie within map values.
    let (seen, client_seen) =
        unsafe { (Activity(word.read_volatile()), Activity((&raw const (*flow).activity).read_volatile())) };
    let timeout = current.state().timeout(&config.timeouts);
    if seen.idle(now) >= timeout && client_seen.idle(now) >= timeout {
        return PASS;
    }
    let packet = &scratch.packet;
    if packet.malformed != 0 {
        return dropped(Drop::Malformed);
    }
    if packet.ttl > 1 {
        advance(flow, current, packet, client_seen, now);
        // SAFETY: as above.
        unsafe { word.write_volatile(seen.after(now, packet.length()).0) };
    }
    CONTINUE
}

/// Moves a flow's state on by a packet of the target.
#[inline(always)]
fn advance<A>(flow: *mut Flow, current: FlowHead, packet: &Packet<A>, client_seen: Activity, now: u32) {
    let state = current.state();
    let next = if packet.protocol == protocol::TCP {
        state.after_tcp(Direction::Reverse, packet.flags, false)
    } else {
        state.after_datagram(Direction::Reverse, false)
    };
    let number = if next as u8 == State::SynReceived as u8 && packet.flags & flags::SYN != 0 {
        // What the client has to acknowledge; written before the state, so that no acknowledgement is judged by an old number.
        packet.sequence.wrapping_add(1)
    } else if next.is_closed() && !state.is_closed() {
        // How far the client's sequence numbers have come.
        packet.acknowledgement
    } else {
        if next as u8 != state as u8 {
            swap_head(flow, current, current.with_state(next));
        }
        return;
    };
    let stamp = Activity::new(now.wrapping_sub(client_seen.idle(now)), u64::from(number));
    // SAFETY: within a map value.
    unsafe { (&raw mut (*flow).activity).write_volatile(stamp.0) };
    if next as u8 != state as u8 {
        swap_head(flow, current, current.with_state(next));
    }
}
