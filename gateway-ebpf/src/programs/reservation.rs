//! Making flows: reserving a source port towards a target, and taking over one that is dead.
//!
//! A reservation is an entry of `replies`. Nobody deletes one but the sweep: it changes hands in place, by compare-and-swap of
//! its owner, and is given back by becoming free. A flow that loses its reservation is first marked deleted, also by
//! compare-and-swap, so that of all who want it exactly one goes on; then the reservation is taken, then the flow's entry
//! is deleted.

use aya_ebpf::bindings::BPF_NOEXIST;

use super::{
    CONTINUE, dropped,
    flow::{flow_key, holds, is_live, reply_key},
    now, repeat,
    tables::{Addr, Guarded, ReplyValue, Scratch, Tables, config, head, swap_head},
};
use crate::{
    conntrack::{FLOOD_CANDIDATES, Reuse, State, reuse},
    family::Address,
    maps::{Activity, Flow, FlowHead, FlowKey, OWNER_LOCKED, Owner, Reply, TARGET_ACTIVE, flow_check},
    packet::{Packet, protocol},
    ports::PROBES,
    verdict::Drop,
};

/// Seconds after which a reservation without a flow is an orphan rather than one in the making.
pub(super) const ORPHAN_AGE: u32 = 2;

/// How a look at an occupied reservation ended; idle seconds of a candidate are added to [`CANDIDATE`].
const OCCUPIED: u32 = 0;
const TAKEN: u32 = 1;
/// It is this very flow's: in the making on another CPU, or left by the flow that was under this key before. Its clock is not touched
/// until the flow is entered, or it would speak for that earlier flow.
const OWN: u32 = 2;
/// The flow that owned it is ended: the reservation is for whoever swaps its owner, and the flow's entry is to be deleted thereafter.
const EVICTED: u32 = 3;
/// The one that was to give way was lost to another CPU.
const LOST: u32 = 4;
const CANDIDATE: u32 = 0x1000_0000;

/// `-EEXIST` (asm-generic/errno-base.h)
const EXISTS: i32 = -17;
/// [`replace`] has put the new flow in the place of a dead one.
const REPLACED: i32 = CONTINUE + 1;

/// Opens the flow `scratch.flow` to the slot `scratch.target`; leaves the reserved port in `scratch.snat_port`.
#[inline(never)]
pub(super) fn open<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let Some(target) = T::targets().get(scratch.target) else { return dropped(Drop::NoTarget) };
    if target.state != TARGET_ACTIVE {
        return dropped(Drop::NoTarget);
    }
    scratch.reply = reply_key(target, 0);
    scratch.owner =
        Owner { client: scratch.client, client_port: scratch.client_port, target: scratch.target as u16 };
    let found = if target.protocol == protocol::SCTP {
        // The CRC covers the ports, and only the client's own port leaves them as they are.
        if target.port != target.vip_port {
            return dropped(Drop::SctpPort);
        }
        scratch.search.desperate = 0;
        scratch.reply.snat_port = scratch.client_port;
        match attempt::<T>(scratch) {
            found @ (TAKEN | OWN) => found,
            _ => return dropped(Drop::SctpPort),
        }
    } else {
        match find::<T>(scratch) {
            OCCUPIED => return dropped(Drop::PortsExhausted),
            LOST => return dropped(Drop::Busy),
            found => found,
        }
    };
    scratch.snat_port = scratch.reply.snat_port;
    enter::<T>(scratch, found)
}

/// Walks the port sequence; leaves the port in `scratch.reply`.
#[inline(always)]
fn find<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> u32 {
    let search = &mut scratch.search;
    search.found = OCCUPIED;
    search.candidates = 0;
    search.candidate_idle = 0;
    search.candidate_port = 0;
    search.desperate = 0;
    let mut carrier = core::ptr::from_mut(scratch);
    repeat(PROBES, probe::<T>, &mut carrier);
    let search = &mut scratch.search;
    if search.found != OCCUPIED || search.candidate_port == 0 {
        return search.found;
    }
    search.desperate = 1;
    scratch.reply.snat_port = search.candidate_port;
    match attempt::<T>(scratch) {
        found @ (TAKEN | OWN) => found,
        _ => LOST,
    }
}

/// Tries the port at `index` of the sequence.
extern "C" fn probe<T: Tables>(index: u32, carrier: *mut *mut Scratch<Addr<T>>) -> i64 {
    // SAFETY: `repeat` passes on what `find` gave it, which nothing else uses meanwhile.
    let scratch = unsafe { &mut **carrier };
    let port = scratch.search.ports.nth(index);
    scratch.reply.snat_port = port;
    let found = attempt::<T>(scratch);
    let search = &mut scratch.search;
    if found == TAKEN || found == OWN {
        search.found = found;
        return 1;
    }
    if found >= CANDIDATE {
        let idle = found - CANDIDATE + 1;
        if idle > search.candidate_idle {
            search.candidate_idle = idle;
            search.candidate_port = port;
        }
        search.candidates += 1;
        return i64::from(search.candidates >= FLOOD_CANDIDATES);
    }
    0
}

/// Tries to reserve `scratch.reply` for `scratch.owner`.
#[inline(never)]
fn attempt<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> u32 {
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else {
        let value = <ReplyValue<T> as Reply<Addr<T>>>::new(&scratch.owner, Activity::new(now(), 0));
        return match T::replies().insert(&scratch.reply, value, u64::from(BPF_NOEXIST)) {
            Ok(()) => TAKEN,
            // Somebody was faster, or the map is full: the next port may be one to take over.
            Err(_) => OCCUPIED,
        };
    };
    let Some((owner, word)) = T::Family::owner(reply) else { return OCCUPIED };
    if owner.target == OWNER_LOCKED {
        return OCCUPIED;
    }
    if owner == scratch.owner {
        return OWN;
    }
    let mut verdict = TAKEN;
    if owner.target != 0 {
        let Some(target) = T::targets().get(u32::from(owner.target)) else { return OCCUPIED };
        scratch.rival = flow_key(&owner, target);
        verdict = evict::<T>(scratch, owner.target, reply);
        if verdict != TAKEN && verdict != EVICTED {
            return verdict;
        }
    }
    renew::<T>(reply);
    let taken = T::Family::swap_owner(reply, word, &scratch.owner);
    if verdict == EVICTED {
        delete_flow::<T>(&scratch.rival, service_of::<T>(owner.target));
    } else if taken && owner.target != 0 {
        end_adopted::<T>(scratch, owner.target);
    }
    if taken { TAKEN } else { OCCUPIED }
}

/// Starts a reservation's clock and counter anew.
#[inline(always)]
fn renew<T: Tables>(reply: *mut ReplyValue<T>) {
    // SAFETY: within a map value.
    unsafe { T::Family::activity(reply).write_volatile(Activity::new(now(), 0).0) };
}

/// Ends the flow `scratch.rival`, which owns the reservation `scratch.reply` towards slot `slot`, if it may be ended: [`EVICTED`]. Its entry
/// stays until the reservation has its new owner, so that nothing can be entered under its key that takes the reservation for
/// its own. [`TAKEN`]: there is no such flow.
#[inline(never)]
fn evict<T: Tables>(scratch: &mut Scratch<Addr<T>>, slot: u16, reply: *mut ReplyValue<T>) -> u32 {
    let Some(config) = config::<T>() else { return OCCUPIED };
    let now = now();
    // SAFETY: within a map value.
    let reverse_idle = Activity(unsafe { T::Family::activity(reply).read_volatile() }).idle(now);
    let orphan = if reverse_idle >= ORPHAN_AGE { TAKEN } else { OCCUPIED };
    let Some(flow) = T::flows().get_ptr_mut(&scratch.rival) else { return orphan };
    let current = head(flow);
    if !holds(current, &scratch.rival, slot, scratch.reply.snat_port) {
        return orphan;
    }
    // SAFETY: within a map value.
    let activity = Activity(unsafe { (&raw const (*flow).activity).read_volatile() });
    let forward_idle = activity.idle(now);
    let idle = if forward_idle < reverse_idle { forward_idle } else { reverse_idle };
    let beyond = scratch.packet.sequence.wrapping_sub(activity.bytes() as u32) as i32;
    let ahead = scratch.packet.protocol == protocol::TCP && beyond > 0;
    match reuse(current.state(), idle, &config.timeouts, ahead) {
        Reuse::No => return OCCUPIED,
        Reuse::LastResort if scratch.search.desperate == 0 => {
            return CANDIDATE + if idle > 0xffff { 0xffff } else { idle };
        }
        Reuse::LastResort | Reuse::Now => {}
    }
    if swap_head(flow, current, current.with_state(State::Deleted)) { EVICTED } else { OCCUPIED }
}

/// Enters the flow `scratch.flow` with the reservation `scratch.reply`, in place of a dead one under the same key; or adopts the
/// one that another CPU has entered.
#[inline(never)]
fn enter<T: Tables>(scratch: &mut Scratch<Addr<T>>, found: u32) -> i32 {
    let slot = scratch.target as u16;
    let new = new_head(scratch);
    let inserted = insert::<T>(scratch, new);
    if inserted != 0 {
        let replaced = replace::<T>(scratch, new, inserted);
        if replaced != REPLACED {
            // Only what was reserved here goes back: what was found belongs to another CPU, which is about to enter it. And not if
            // that CPU found this one's reservation, and entered that.
            let shared = replaced == CONTINUE
                && scratch.snat_port == new.snat_port()
                && scratch.target == u32::from(slot);
            if found == TAKEN && !shared {
                release::<T>(scratch);
                scratch.rival = scratch.flow;
                end_adopted::<T>(scratch, slot);
            }
            return replaced;
        }
    }
    count_opened::<T>(service_of::<T>(slot));
    // Between the reservation and the entry the flow may have been entered by another CPU, flushed, and its reservation
    // given back; or the sweep may have been about to delete a reservation that was found.
    if !confirm::<T>(scratch, found) {
        if let Some(flow) = T::flows().get_ptr_mut(&scratch.flow)
            && swap_head(flow, new, new.with_state(State::Deleted))
        {
            delete_flow::<T>(&scratch.flow, service_of::<T>(slot));
        }
        return dropped(Drop::Busy);
    }
    CONTINUE
}

/// The first eight bytes of a flow that is new.
#[inline(always)]
fn new_head<A: Address>(scratch: &Scratch<A>) -> FlowHead {
    let state = State::first(scratch.packet.protocol);
    FlowHead::new(scratch.snat_port, scratch.target as u16, flow_check(&scratch.flow), state)
}

/// The clock of a flow that is new; it has seen one packet.
#[inline(always)]
fn new_activity<A>(packet: &Packet<A>, state: State) -> u64 {
    Activity::new(now(), if state.counts_bytes() { u64::from(packet.length()) } else { 0 }).0
}

/// Enters the flow `scratch.flow` where there is none under its key; returns 0 or a negative error number. Not inlined: its stack
/// would otherwise add to the deepest chain of calls, which goes from [`enter`] to [`replace`] and must stay within the 512 bytes
/// of Linux 6.1.
#[inline(never)]
fn insert<T: Tables>(scratch: &Scratch<Addr<T>>, new: FlowHead) -> i32 {
    let value = Flow {
        snat_port: new.snat_port(),
        target: new.target(),
        check: new.check(),
        state: new.state() as u8,
        pad: 0,
        activity: new_activity(&scratch.packet, new.state()),
    };
    match T::flows().insert(&scratch.flow, value, u64::from(BPF_NOEXIST)) {
        Ok(()) => 0,
        Err(error) => error,
    }
}

/// What [`enter`] does where the key is taken, or the map is full, as `inserted` says: [`REPLACED`], or [`CONTINUE`] with the port
/// and the target of the flow that is there, or a reason to drop. The reservation in `scratch.reply` stays as it is.
#[inline(never)]
fn replace<T: Tables>(scratch: &mut Scratch<Addr<T>>, new: FlowHead, inserted: i32) -> i32 {
    let Some(flow) = T::flows().get_ptr_mut(&scratch.flow) else {
        // An entry that was in the way is gone meanwhile.
        return dropped(if inserted == EXISTS { Drop::Busy } else { Drop::TableFull });
    };
    let old = head(flow);
    if old.state() == State::Deleted || old.check() != new.check() {
        return dropped(Drop::Busy);
    }
    scratch.mine = scratch.reply;
    scratch.rival = scratch.flow;
    let live = is_live::<T>(scratch, flow, old, true);
    scratch.reply = scratch.mine;
    if live {
        scratch.target = u32::from(old.target());
        scratch.snat_port = old.snat_port();
        return CONTINUE;
    }
    if !swap_head(flow, old, new) {
        return dropped(Drop::Busy);
    }
    // SAFETY: within a map value.
    unsafe { (&raw mut (*flow).activity).write_volatile(new_activity(&scratch.packet, new.state())) };
    count_closed::<T>(service_of::<T>(old.target()));
    if (old.target() != new.target() || old.snat_port() != new.snat_port())
        && let Some(target) = T::targets().get(u32::from(old.target()))
    {
        scratch.reply = reply_key(target, old.snat_port());
        scratch.owner.target = old.target();
        release::<T>(scratch);
        scratch.reply = scratch.mine;
        scratch.owner.target = new.target();
    }
    REPLACED
}

/// Whether the reservation `scratch.reply` still belongs to `scratch.owner`, now that its flow is entered.
#[inline(always)]
fn confirm<T: Tables>(scratch: &Scratch<Addr<T>>, found: u32) -> bool {
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return false };
    let Some((owner, word)) = T::Family::owner(reply) else { return false };
    if owner != scratch.owner {
        return false;
    }
    if found == TAKEN {
        return true;
    }
    renew::<T>(reply);
    // A barrier between the entry and the look at the owner: whoever takes the reservation from here on finds the flow.
    T::Family::swap_owner(reply, word, &scratch.owner)
}

/// Ends the flow `scratch.rival` to slot `slot`, if it was entered with the reservation `scratch.reply` that has just changed hands:
/// its CPU found the reservation to be its own a moment before.
#[inline(never)]
fn end_adopted<T: Tables>(scratch: &Scratch<Addr<T>>, slot: u16) {
    let Some(flow) = T::flows().get_ptr_mut(&scratch.rival) else { return };
    let current = head(flow);
    if holds(current, &scratch.rival, slot, scratch.reply.snat_port)
        && swap_head(flow, current, current.with_state(State::Deleted))
    {
        delete_flow::<T>(&scratch.rival, service_of::<T>(slot));
    }
}

/// Gives the reservation `scratch.reply` back, if it is `scratch.owner`'s. It is free at once; the sweep deletes the entry later.
#[inline(never)]
pub(super) fn release<T: Tables>(scratch: &Scratch<Addr<T>>) {
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return };
    let Some((current, word)) = T::Family::owner(reply) else { return };
    if current == scratch.owner {
        renew::<T>(reply);
        T::Family::swap_owner(reply, word, &Owner::default());
    }
}

/// Deletes the entry of a flow that this CPU has marked deleted.
#[inline(always)]
pub(super) fn delete_flow<T: Tables>(key: &FlowKey<Addr<T>>, service: u32) {
    if T::flows().remove(key).is_ok() {
        count_closed::<T>(service);
    }
}

/// The service that a slot of `targets` belongs to; 0, which counts for nobody, if there is none.
#[inline(always)]
pub(super) fn service_of<T: Tables>(slot: u16) -> u32 {
    match T::targets().get(u32::from(slot)) {
        Some(target) => target.service,
        None => 0,
    }
}

#[inline(always)]
fn count_opened<T: Tables>(service: u32) {
    if let Some(stats) = T::stats().get_ptr_mut(service) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe { (*stats).flows_opened += 1 };
    }
}

#[inline(always)]
fn count_closed<T: Tables>(service: u32) {
    if let Some(stats) = T::stats().get_ptr_mut(service) {
        // SAFETY: as above.
        unsafe { (*stats).flows_closed += 1 };
    }
}
