//! Every packet that the hot path declined: first packets, connection ends, fragments, options, errors to be made.

use aya_ebpf::bindings::__sk_buff;

use super::{
    CONTINUE, PASS, dropped,
    flow::{client_next_hop, next_hop},
    fold, forward, hop, icmp_error, icmp_reply,
    ingress::Ingress as _,
    mss, now, reverse, rewrite,
    rewrite::{Rest, To},
    scratch::PACKET_SCRATCH,
    skb::Skb,
    slow_path,
    tables::{Addr, Scratch, Tables, config},
};
use crate::{
    conntrack::Direction,
    family::Family,
    maps::{Fragment, FragmentKey, ServiceKey, TARGET_ACTIVE, TARGET_DRAINING},
    packet::{Packet, ParseError, fragment, parse, protocol, transport, transport::flags},
    verdict::Drop,
};

/// Seconds for which the first fragment of a packet speaks for the others (Linux `ipfrag_time`).
const FRAGMENT_LIFETIME: u32 = 30;

/// tc ingress of the external link.
#[inline(never)]
pub fn forward<T: Tables>(context: *mut __sk_buff) -> i32 {
    run::<T>(Skb(context), Direction::Forward)
}

/// tc ingress of the cluster link.
#[inline(never)]
pub fn reverse<T: Tables>(context: *mut __sk_buff) -> i32 {
    run::<T>(Skb(context), Direction::Reverse)
}

#[inline(always)]
fn run<T: Tables>(skb: Skb, direction: Direction) -> i32 {
    let Some(scratch) = T::scratch().get_ptr_mut(PACKET_SCRATCH) else { return PASS };
    // SAFETY: a per-CPU value that nothing else uses while this program runs.
    let scratch = unsafe { &mut *scratch };
    match parse_into::<T>(skb, scratch) {
        CONTINUE => {}
        // Towards the pod itself the rest is the kernel's business; towards a VIP it must not go round the data path.
        _ if direction == Direction::Reverse => return PASS,
        verdict => return verdict,
    }
    if config::<T>().is_none() {
        return unconfigured::<T>(scratch, direction);
    }
    let is_later = scratch.packet.fragment == fragment::LATER;
    if scratch.packet.protocol == T::Family::ICMP {
        // Later fragments of an ICMP message belong to one that only the kernel can have an interest in.
        return if is_later { PASS } else { icmp_error::translate::<T>(skb, scratch, direction) };
    }
    let found = if is_later {
        match later_fragment::<T>(scratch) {
            // On the cluster link it may be for one of the pod's own sockets.
            unknown if unknown == dropped(Drop::FragmentUnknown) && direction == Direction::Reverse => PASS,
            found => found,
        }
    } else if direction == Direction::Forward {
        forward::plan::<T>(scratch)
    } else {
        reverse::plan::<T>(scratch)
    };
    if found != CONTINUE {
        // The one error that is made before there is a flow: it must not cost a reservation.
        return if found == dropped(Drop::TtlExceeded) {
            answer::<T>(skb, scratch, direction, Drop::TtlExceeded)
        } else {
            found
        };
    }
    match direction {
        Direction::Forward => send_forward::<T>(skb, scratch),
        Direction::Reverse => send_reverse::<T>(skb, scratch),
    }
}

/// The verdict while a link is unknown. Nothing can be sent, but what is ours must not reach the pod's own stack either: it would
/// reset connections that go on once the link is back.
#[inline(never)]
fn unconfigured<T: Tables>(scratch: &mut Scratch<Addr<T>>, direction: Direction) -> i32 {
    let packet = &scratch.packet;
    let ours = match direction {
        Direction::Forward => {
            let key = ServiceKey {
                vip: packet.destination,
                port: packet.destination_port,
                protocol: packet.protocol,
                pad: 0,
            };
            T::services().get_ptr(&key).is_some()
        }
        Direction::Reverse => {
            scratch.reply = reverse::key_of(packet);
            T::replies().get_ptr(&scratch.reply).is_some()
        }
    };
    if ours { dropped(Drop::Unconfigured) } else { PASS }
}

#[inline(never)]
fn parse_into<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>) -> i32 {
    match parse::<T::Family>(&skb, &mut scratch.packet) {
        Ok(()) => CONTINUE,
        Err(ParseError::NotOurs) => PASS,
        Err(ParseError::ExtensionHeaders) => dropped(Drop::ExtensionHeaders),
        Err(ParseError::SourceRoute) => dropped(Drop::SourceRoute),
    }
}

#[inline(never)]
fn send_forward<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>) -> i32 {
    fold(send::<T>(skb, scratch, Direction::Forward))
}

#[inline(never)]
fn send_reverse<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>) -> i32 {
    fold(send::<T>(skb, scratch, Direction::Reverse))
}

/// Checks the packet against the next link, rewrites and sends it.
#[inline(always)]
fn send<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>, direction: Direction) -> Result<i32, Drop> {
    let config = config::<T>().ok_or(Drop::Unconfigured)?;
    let target = T::targets().get(scratch.target).ok_or(Drop::NoTarget)?;
    if scratch.packet.ttl <= 1 {
        return Ok(answer::<T>(skb, scratch, direction, Drop::TtlExceeded));
    }
    let mtu = match direction {
        Direction::Forward => {
            scratch.ifindex = config.cluster_ifindex;
            scratch.next_hop = next_hop(target);
            scratch.to = To {
                source: target.snat,
                destination: target.address,
                source_port: scratch.snat_port,
                destination_port: target.port,
            };
            config.cluster_mtu
        }
        Direction::Reverse => {
            scratch.ifindex = config.external_ifindex;
            scratch.next_hop = client_next_hop(target, &scratch.client).ok_or(Drop::NoRoute)?;
            scratch.to = To {
                source: target.vip,
                destination: scratch.client,
                source_port: target.vip_port,
                destination_port: scratch.client_port,
            };
            config.external_mtu
        }
    };
    let packet = &scratch.packet;
    let too_big = exceeds::<T::Family>(skb, packet, scratch.ifindex, mtu);
    if too_big && packet.dont_fragment != 0 {
        return Ok(answer::<T>(skb, scratch, direction, Drop::TooBig));
    }
    if packet.fragment == fragment::FIRST {
        remember_fragment::<T>(scratch);
    }
    let packet = &scratch.packet;
    if packet.protocol == protocol::TCP && packet.flags & flags::SYN != 0 && packet.fragment == fragment::NONE
    {
        mss::clamp(skb, packet, mss::largest::<T::Family>(config))?;
    }
    let rest = if too_big { Rest::Stack } else { Rest::Nothing };
    rewrite::anywhere::<T::Family>(&skb, packet, &scratch.to, rest)?;
    count::<T>(skb, packet, target.service, direction);
    if too_big {
        skb.set_mark(slow_path::mark(scratch.target));
        return Ok(PASS);
    }
    // By the same way as the hot path, so that packets of a flow do not overtake one another.
    if direction == Direction::Forward
        && let Some((_, ethernet)) = hop::to(T::handover(), target, now())
    {
        skb.write(0, bytemuck::cast_ref::<_, [u8; 12]>(&ethernet))?;
        return Ok(skb.hand_over(scratch.ifindex));
    }
    Ok(skb.redirect::<T::Family>(scratch.ifindex, &scratch.next_hop))
}

/// Whether the largest IP packet that leaves here is longer than `mtu`: a super-packet is segmented later.
#[inline(always)]
fn exceeds<F: Family>(skb: Skb, packet: &Packet<F::Addr>, ifindex: u32, mtu: u32) -> bool {
    let gso_size = skb.gso_size();
    let largest = match (gso_size, packet.protocol) {
        (0, _) => packet.length(),
        // SCTP bundles packets of any length, which only the kernel knows.
        (_, protocol::SCTP) => return !skb.segments_fit(ifindex),
        (_, protocol::TCP) => {
            packet.transport - crate::packet::ETHERNET + u32::from(packet.header) + gso_size
        }
        _ => packet.transport - crate::packet::ETHERNET + 8 + gso_size,
    };
    largest > mtu
}

/// Drops a packet and, rate permitting, turns it into the ICMP error that tells its sender why.
#[inline(always)]
fn answer<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>, direction: Direction, reason: Drop) -> i32 {
    let (Some(target), Some(config)) = (T::targets().get(scratch.target), config::<T>()) else {
        return dropped(reason);
    };
    let mtu = match direction {
        Direction::Forward => {
            let Some(hop) = client_next_hop(target, &scratch.packet.source) else { return dropped(reason) };
            scratch.next_hop = hop;
            scratch.icmp_source = target.vip;
            scratch.ifindex = config.external_ifindex;
            config.cluster_mtu
        }
        Direction::Reverse => {
            scratch.next_hop = next_hop(target);
            scratch.icmp_source = target.snat;
            scratch.ifindex = config.cluster_ifindex;
            config.external_mtu
        }
    };
    scratch.mtu = if reason == Drop::TooBig { mtu } else { 0 };
    icmp_reply::send::<T>(skb, scratch, reason)
}

/// Adds a packet to its service's counters.
#[inline(always)]
fn count<T: Tables>(skb: Skb, packet: &Packet<Addr<T>>, service: u32, direction: Direction) {
    let Some(stats) = T::stats().get_ptr_mut(service) else { return };
    let (packets, bytes) = (u64::from(skb.segments()), u64::from(packet.length()));
    // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
    unsafe {
        match direction {
            Direction::Forward => {
                (*stats).forward_packets += packets;
                (*stats).forward_bytes += bytes;
            }
            Direction::Reverse => {
                (*stats).reverse_packets += packets;
                (*stats).reverse_bytes += bytes;
            }
        }
    }
}

#[inline(always)]
fn fragment_key<A: Copy>(packet: &Packet<A>) -> FragmentKey<A> {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        id: packet.id,
        protocol: u32::from(packet.protocol),
    }
}

/// Lets the later fragments of this packet follow it.
#[inline(never)]
fn remember_fragment<T: Tables>(scratch: &mut Scratch<Addr<T>>) {
    scratch.fragment = fragment_key(&scratch.packet);
    let value = Fragment { client: scratch.client, target: scratch.target, created: now() };
    // A full map evicts its oldest entry, so that this can only fail for want of memory; the later fragments are then
    // dropped and counted.
    let _ = T::fragments().insert(&scratch.fragment, value, 0);
}

/// Finds out where a fragment without ports belongs.
#[inline(never)]
fn later_fragment<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    scratch.fragment = fragment_key(&scratch.packet);
    let packet = &scratch.packet;
    // SAFETY: the value is copied at once; an LRU entry that is recycled in this instant is one for a newer packet, whose
    // target and client are whole since neither is ever changed in place.
    let Some(value) = (unsafe { T::fragments().get(&scratch.fragment) }) else {
        return unknown_fragment(packet);
    };
    if now().wrapping_sub(value.created) > FRAGMENT_LIFETIME {
        return unknown_fragment(packet);
    }
    scratch.client = value.client;
    scratch.target = value.target;
    let Some(target) = T::targets().get(scratch.target) else { return dropped(Drop::NoTarget) };
    if target.state != TARGET_ACTIVE && target.state != TARGET_DRAINING {
        return PASS;
    }
    // RFC 3128: a fragment that would overwrite the header by which its packet was judged.
    if packet.protocol == protocol::TCP && u32::from(packet.fragment_offset) < transport::TCP_HEADER {
        return dropped(Drop::FragmentOverlap);
    }
    CONTINUE
}

/// A later fragment that no first one has announced: refused if it is of a protocol that we forward, since nothing tells
/// whether it is for a service port; otherwise the kernel's.
#[inline(always)]
const fn unknown_fragment<A>(packet: &Packet<A>) -> i32 {
    match packet.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => dropped(Drop::FragmentUnknown),
        _ => PASS,
    }
}
