//! Flows in the maps: keys from either side, whether one still holds, and the neighbours on its way.

use super::{
    PASS, dropped, now,
    plain::load_address,
    tables::{Addr, Guarded, ReplyValue, Scratch, Tables, config, head},
};
use crate::{
    conntrack::State,
    family::Address,
    maps::{
        Activity, Flow, FlowHead, FlowKey, OWNER_LOCKED, Owner, ReplyKey, TARGET_ACTIVE, TARGET_DRAINING,
        Target, flow_check,
    },
    packet::{Packet, protocol},
    verdict::Drop,
};

/// The neighbour on the cluster link through which a target is reached.
#[inline(always)]
pub(super) fn next_hop<A: Address>(target: &Target<A>) -> A {
    // SAFETY: both are parts of a map value.
    let load = |address: *const A| unsafe { load_address::<A>(address as usize) };
    let hop = load(&raw const target.cluster_next_hop);
    if hop.is_zero() { load(&raw const target.address) } else { hop }
}

/// The key of the reservation of `port` towards a target.
#[inline(always)]
pub(super) fn reply_key<A: Copy>(target: &Target<A>, port: u16) -> ReplyKey<A> {
    ReplyKey {
        target: target.address,
        snat: target.snat,
        target_port: target.port,
        snat_port: port,
        protocol: u32::from(target.protocol),
    }
}

/// Whether flows may go on to a target: UDP leaves a draining one at once.
#[inline(always)]
pub(super) fn continues<A>(target: &Target<A>) -> bool {
    target.state == TARGET_ACTIVE || (target.state == TARGET_DRAINING && target.protocol != protocol::UDP)
}

/// The neighbour on the external link through which a client is reached: itself inside the VIP's subnet, else the gateway.
#[inline(always)]
pub(super) fn client_next_hop<A: Address>(target: &Target<A>, client: &A) -> Option<A> {
    let (vip, mask, client_words) = (target.vip.words(), target.vip_mask.words(), client.words());
    let mut outside = 0;
    for index in 0..A::LEN / 4 {
        outside |= (vip[index] ^ client_words[index]) & mask[index];
    }
    if outside == 0 {
        Some(*client)
    } else if target.external_next_hop.is_zero() {
        None
    } else {
        Some(target.external_next_hop)
    }
}

/// The client's view of a packet that came from it.
#[inline(always)]
pub(super) fn key_of<A: Copy>(packet: &Packet<A>) -> FlowKey<A> {
    FlowKey {
        client: packet.source,
        vip: packet.destination,
        client_port: packet.source_port,
        vip_port: packet.destination_port,
        protocol: u32::from(packet.protocol),
    }
}

/// The key of the flow that owns a reservation.
#[inline(always)]
pub(super) fn flow_key<A: Copy>(owner: &Owner<A>, target: &Target<A>) -> FlowKey<A> {
    FlowKey {
        client: owner.client,
        vip: target.vip,
        client_port: owner.client_port,
        vip_port: target.vip_port,
        protocol: u32::from(target.protocol),
    }
}

/// Whether the flow found under `key` is the one that holds `snat_port` towards `target`.
#[inline(always)]
pub(super) fn holds<A: crate::family::Address>(
    current: FlowHead,
    key: &FlowKey<A>,
    target: u16,
    snat_port: u16,
) -> bool {
    current.snat_port() == snat_port
        && current.target() == target
        && current.check() == flow_check(key)
        && current.0 >> 48 != State::Deleted as u64
}

/// Whether a flow still holds: its target serves it, its reservation is its own, and one of the two has seen a packet in time.
/// The flow is the one under `scratch.rival`. `opening`: for a packet that opens a connection, which a closed one does not keep
/// at a target that is being left.
#[inline(never)]
pub(super) fn is_live<T: Tables>(
    scratch: &mut Scratch<Addr<T>>,
    flow: *const Flow,
    current: FlowHead,
    opening: bool,
) -> bool {
    let Some(target) = T::targets().get(u32::from(current.target())) else { return false };
    if !continues(target) || (opening && target.state != TARGET_ACTIVE && current.state().is_closed()) {
        return false;
    }
    scratch.reply = reply_key(target, current.snat_port());
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return false };
    let Some((owner, _)) = T::Family::owner(reply) else { return false };
    let key = &scratch.rival;
    if owner.client != key.client || owner.client_port != key.client_port || owner.target != current.target()
    {
        return false;
    }
    let Some(config) = config::<T>() else { return false };
    let timeout = current.state().timeout(&config.timeouts);
    let now = now();
    // SAFETY: both lie within map values.
    let (forward, reverse) = unsafe {
        ((&raw const (*flow).activity).read_volatile(), T::Family::activity(reply).read_volatile())
    };
    Activity(forward).idle(now) < timeout || Activity(reverse).idle(now) < timeout
}

/// The flow that holds the reservation `scratch.reply`; fills in client, target and ports. Otherwise the verdict.
#[inline(always)]
pub(super) fn owner_flow<T: Tables>(
    scratch: &mut Scratch<Addr<T>>,
    reply: *const ReplyValue<T>,
) -> Result<*mut Flow, i32> {
    let Some((owner, _)) = T::Family::owner(reply) else { return Err(dropped(Drop::Busy)) };
    if owner.target == 0 || owner.target == OWNER_LOCKED {
        return Err(PASS);
    }
    let Some(target) = T::targets().get(u32::from(owner.target)) else { return Err(PASS) };
    if !continues(target) {
        return Err(PASS);
    }
    scratch.rival = flow_key(&owner, target);
    scratch.client = owner.client;
    scratch.client_port = owner.client_port;
    scratch.target = u32::from(owner.target);
    scratch.snat_port = scratch.reply.snat_port;
    let Some(flow) = T::flows().get_ptr_mut(&scratch.rival) else { return Err(PASS) };
    if holds(head(flow), &scratch.rival, owner.target, scratch.snat_port) { Ok(flow) } else { Err(PASS) }
}
