//! Deleting: the only place where entries of `flows` and `replies` that nobody contests disappear.
//!
//! User space walks the maps and names candidates; the judgement is made here, at the moment of deletion, under the same
//! protocol by which packets take entries over. The request is a frame of EtherType 0x88b5 (IEEE 802.1, local
//! experiments): one byte of operation, one of count, then the keys.

use super::{
    flow::{flow_key, holds, is_live, reply_key},
    now, repeat,
    reservation::{ORPHAN_AGE, delete_flow, release, service_of},
    scratch::SWEEP_SCRATCH,
    skb::Skb,
    tables::{Addr, Guarded, Scratch, Tables, config, head, swap_head},
};
use crate::{
    conntrack::State,
    maps::{
        Activity, Flow, FlowKey, OWNER_LOCKED, Owner, ReplyKey, SWEEP_EXPIRED, SWEEP_FLUSH, SWEEP_MAX_KEYS,
        SWEEP_REPLIES,
    },
    packet::{Bytes, ETHERNET},
};

/// One request on its way.
struct Request {
    skb: Skb,
    operation: u8,
    count: u32,
    deleted: i32,
}

/// Runs one request; returns the number of entries deleted.
#[inline(always)]
pub(super) fn run<T: Tables>(skb: Skb) -> i32 {
    let Some([operation, count]) = skb.read::<2>(ETHERNET) else { return 0 };
    let mut request = Request { skb, operation, count: u32::from(count), deleted: 0 };
    repeat(SWEEP_MAX_KEYS, step::<T>, &mut request);
    request.deleted
}

/// Handles the key at `index`.
extern "C" fn step<T: Tables>(index: u32, request: *mut Request) -> i64 {
    // SAFETY: `repeat` passes the request on.
    let request = unsafe { &mut *request };
    if index >= request.count || index >= SWEEP_MAX_KEYS {
        return 1;
    }
    request.deleted += match request.operation {
        SWEEP_EXPIRED => flow::<T>(&request.skb, index, false),
        SWEEP_FLUSH => flow::<T>(&request.skb, index, true),
        SWEEP_REPLIES => reply::<T>(&request.skb, index),
        _ => return 1,
    };
    0
}

/// Where the key at `index` stands.
#[inline(always)]
const fn key_offset<K>(index: u32) -> u32 {
    ETHERNET + 2 + index * size_of::<K>() as u32
}

/// Deletes a flow and frees its reservation, if it is dead, or in any case (`flush`).
#[inline(never)]
fn flow<T: Tables>(skb: &Skb, index: u32, flush: bool) -> i32 {
    let Some(scratch) = T::scratch().get_ptr_mut(SWEEP_SCRATCH) else { return 0 };
    // SAFETY: a per-CPU value that only the sweep uses, and the daemon runs one request at a time.
    let scratch = unsafe { &mut *scratch };
    // Without settings there are no timeouts to judge by.
    if !flush && config::<T>().is_none() {
        return 0;
    }
    let Some(key) = skb.read_as(key_offset::<FlowKey<Addr<T>>>(index)) else { return 0 };
    scratch.rival = key;
    let Some(flow) = T::flows().get_ptr_mut(&scratch.rival) else { return 0 };
    let current = head(flow);
    if current.state() == State::Deleted {
        if !is_stuck(flow) {
            return 0;
        }
        delete_flow::<T>(&scratch.rival, service_of::<T>(current.target()));
        return 1;
    }
    if !flush && is_live::<T>(scratch, flow, current, false) {
        return 0;
    }
    let Some(target) = T::targets().get(u32::from(current.target())) else { return 0 };
    if !swap_head(flow, current, current.with_state(State::Deleted)) {
        return 0;
    }
    let key = &scratch.rival;
    scratch.owner = Owner { client: key.client, client_port: key.client_port, target: current.target() };
    scratch.reply = reply_key(target, current.snat_port());
    release::<T>(scratch);
    delete_flow::<T>(&scratch.rival, target.service);
    1
}

/// Whether a flow has been marked deleted for [`ORPHAN_AGE`], by the sweep's own reckoning: whoever marked it deletes it in the next
/// instant, unless the map refused (a bucket's lock held on the same CPU, Linux before 6.2; or not to be had in time, since 6.15).
#[inline(always)]
fn is_stuck(flow: *mut Flow) -> bool {
    // SAFETY: within a map value.
    let seen = unsafe { &raw mut (*flow).activity };
    // SAFETY: as above. Nobody else writes to a flow that is marked deleted.
    unsafe {
        let activity = Activity(seen.read_volatile());
        if activity.bytes() == Activity::MAX_BYTES {
            return activity.idle(now()) >= ORPHAN_AGE;
        }
        seen.write_volatile(Activity::new(now(), Activity::MAX_BYTES).0);
    }
    false
}

/// Deletes a reservation that has been free, or without a flow that holds it, for [`ORPHAN_AGE`].
#[inline(never)]
fn reply<T: Tables>(skb: &Skb, index: u32) -> i32 {
    let Some(scratch) = T::scratch().get_ptr_mut(SWEEP_SCRATCH) else { return 0 };
    // SAFETY: as above.
    let scratch = unsafe { &mut *scratch };
    let Some(key) = skb.read_as(key_offset::<ReplyKey<Addr<T>>>(index)) else { return 0 };
    scratch.reply = key;
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return 0 };
    let Some((owner, word)) = T::Family::owner(reply) else { return 0 };
    scratch.owner = owner;
    // SAFETY: within a map value.
    let activity = Activity(unsafe { T::Family::activity(reply).read_volatile() });
    // Only the sweep locks: the map refused to delete it then.
    if owner.target == OWNER_LOCKED {
        return i32::from(T::replies().remove(&scratch.reply).is_ok());
    }
    if activity.idle(now()) < ORPHAN_AGE || is_held::<T>(scratch) {
        return 0;
    }
    let locked = Owner { target: OWNER_LOCKED, ..scratch.owner };
    if !T::Family::swap_owner(reply, word, &locked) {
        return 0;
    }
    // A flow that adopted the reservation meanwhile looks at it again after it was entered: one of the two sees the other.
    if is_held::<T>(scratch) {
        if let Some((_, word)) = T::Family::owner(reply) {
            T::Family::swap_owner(reply, word, &scratch.owner);
        }
        return 0;
    }
    i32::from(T::replies().remove(&scratch.reply).is_ok())
}

/// Whether there is a flow of `scratch.owner` that holds the reservation `scratch.reply`.
#[inline(never)]
fn is_held<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> bool {
    let slot = scratch.owner.target;
    if slot == 0 {
        return false;
    }
    let Some(target) = T::targets().get(u32::from(slot)) else { return false };
    scratch.rival = flow_key(&scratch.owner, target);
    let Some(flow) = T::flows().get_ptr(&scratch.rival) else { return false };
    holds(head(flow), &scratch.rival, slot, scratch.reply.snat_port)
}
