//! The packets of established flows: one lookup, one rewrite, one redirect. Whatever is not plain here is [`PASS`]ed on to
//! `general`, before anything was changed.

use aya_ebpf::bindings::__sk_buff;

use super::{
    PASS, dropped,
    flow::client_next_hop,
    ingress::Ingress,
    now,
    plain::plain,
    rewrite,
    skb::Skb,
    tables::{Guarded, Tables, config, head},
};
use crate::{
    conntrack::State,
    maps::{Activity, TARGET_ACTIVE, TARGET_DRAINING, Target, flow_check},
    packet::protocol,
};

/// A reply younger than this is proof that its flow is alive, so that the flow itself need not be looked up. Seconds;
/// below every timeout that the configuration accepts.
const FRESH: u32 = 1;

/// Whether a target still takes the packets of its flows without a second look.
#[inline(always)]
fn serves<A>(target: &Target<A>, ip_protocol: u8) -> bool {
    target.state == TARGET_ACTIVE || (target.state == TARGET_DRAINING && ip_protocol == protocol::TCP)
}

/// From a client to its target.
#[inline(never)]
pub fn forward<T: Tables>(context: *mut __sk_buff) -> i32 {
    to_target::<T, _>(Skb(context))
}

/// From a client to its target, by whatever hook the packet came.
#[inline(always)]
pub fn to_target<T: Tables, I: Ingress>(frame: I) -> i32 {
    let Some(config) = config::<T>() else { return PASS };
    let Some(packet) = plain::<T::Family, _>(&frame) else { return PASS };
    if packet.largest > config.cluster_mtu {
        return PASS;
    }
    let key = packet.flow_key();
    let Some(flow) = T::flows().get_ptr_mut(&*key) else { return PASS };
    let head = head(flow);
    let timeout = match head.state() {
        State::Established => config.timeouts.tcp_established,
        State::UdpStream => config.timeouts.udp_stream,
        State::UdpUnreplied => config.timeouts.udp_unreplied,
        _ => return PASS,
    };
    let Some(target) = T::targets().get(u32::from(head.target())) else { return PASS };
    let now = now();
    // SAFETY: within a map value.
    let activity = unsafe { Activity((&raw const (*flow).activity).read_volatile()) };
    if head.check() != flow_check(&key) || !serves(target, packet.protocol) || activity.idle(now) >= timeout {
        return PASS;
    }
    let Some(way) = frame.way::<T>(&packet, config, target, now) else { return PASS };
    // SAFETY: as above.
    unsafe { (&raw mut (*flow).activity).write_volatile(activity.after(now, packet.length).0) };
    if let Some(stats) = T::stats().get_ptr_mut(target.service) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe {
            (*stats).forward_packets += u64::from(packet.segments(&frame));
            (*stats).forward_bytes += u64::from(packet.length);
        }
    }
    let to = rewrite::To {
        source: target.snat,
        destination: target.address,
        source_port: head.snat_port(),
        destination_port: target.port,
    };
    match frame.rewrite(&packet, &to, way) {
        Ok(()) => frame.send::<T>(way),
        Err(reason) => dropped(reason),
    }
}

/// From a target to its client.
#[inline(never)]
pub fn reverse<T: Tables>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    let Some(config) = config::<T>() else { return PASS };
    let Some(packet) = plain::<T::Family, _>(&skb) else { return PASS };
    if packet.largest > config.external_mtu {
        return PASS;
    }
    let Some(reply) = T::replies().get_ptr_mut(&*packet.reply_key()) else { return PASS };
    let Some((owner, _)) = T::Family::owner(reply) else { return PASS };
    let Some(target) = T::targets().get(u32::from(owner.target)) else { return PASS };
    let now = now();
    let word = T::Family::activity(reply);
    // SAFETY: within a map value.
    let activity = Activity(unsafe { word.read_volatile() });
    if !serves(target, packet.protocol) || activity.bytes() == 0 || activity.idle(now) >= FRESH {
        return PASS;
    }
    let Some(next_hop) = client_next_hop(target, &owner.client) else { return PASS };
    // SAFETY: as above.
    unsafe { word.write_volatile(activity.after(now, packet.length).0) };
    if let Some(stats) = T::stats().get_ptr_mut(target.service) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe {
            (*stats).reverse_packets += u64::from(packet.segments(&skb));
            (*stats).reverse_bytes += u64::from(packet.length);
        }
    }
    let to = rewrite::To {
        source: target.vip,
        destination: owner.client,
        source_port: target.vip_port,
        destination_port: owner.client_port,
    };
    match rewrite::direct(&skb, &packet, &to) {
        Ok(()) => skb.redirect::<T::Family>(config.external_ifindex, &next_hop),
        Err(reason) => dropped(reason),
    }
}
