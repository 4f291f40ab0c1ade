//! The flow of a packet from a client: found, moved on, or made.

use super::{
    CONTINUE, PASS, dropped,
    flow::{is_live, key_of},
    now, reservation,
    tables::{Addr, Scratch, Tables, compare_and_swap, head, swap_head},
};
use crate::{
    conntrack::{Direction, State, completes_handshake},
    family::{Address, Family},
    maps::{Activity, Flow, FlowHead, RangeKey, SERVICE_HAS_RANGES, Service, ServiceKey, flow_check},
    packet::{Packet, protocol, transport, transport::flags},
    ports::{Sequence, client_hash},
    verdict::Drop,
};

/// Finds or makes the flow of a packet that has a transport header: client, target and ports.
#[inline(never)]
pub(super) fn plan<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let packet = &scratch.packet;
    scratch.flow = key_of(packet);
    scratch.client = packet.source;
    scratch.client_port = packet.source_port;
    if let Some(flow) = T::flows().get_ptr_mut(&scratch.flow) {
        let current = head(flow);
        if current.state() == State::Deleted || current.check() != flow_check(&scratch.flow) {
            return dropped(Drop::Busy);
        }
        let opening =
            packet.protocol == protocol::TCP && packet.flags & (flags::SYN | flags::ACK) == flags::SYN;
        scratch.rival = scratch.flow;
        if is_live::<T>(scratch, flow, current, opening) {
            let packet = &scratch.packet;
            if packet.malformed != 0 {
                return dropped(Drop::Malformed);
            }
            scratch.target = u32::from(current.target());
            scratch.snat_port = current.snat_port();
            // With a TTL of 1 the packet goes no further, and changes nothing.
            if packet.ttl > 1 {
                advance(flow, current, packet);
            }
            return CONTINUE;
        }
    }
    open::<T>(scratch)
}

/// Moves a flow's state and clock on by a packet of the client.
#[inline(always)]
fn advance<A>(flow: *mut Flow, current: FlowHead, packet: &Packet<A>) {
    let now = now();
    // SAFETY: within a map value.
    let activity = unsafe { Activity((&raw const (*flow).activity).read_volatile()) };
    let state = current.state();
    let next = if packet.protocol == protocol::TCP {
        let completes = packet.flags & flags::ACK != 0
            && completes_handshake(activity.bytes() as u32, packet.acknowledgement);
        state.after_tcp(Direction::Forward, packet.flags, completes)
    } else {
        state.after_datagram(Direction::Forward, activity.idle(now) > 0)
    };
    // A lost race means that another CPU has moved the flow; its next packet will find it as it is.
    if next as u8 != state as u8 {
        swap_head(flow, current, current.with_state(next));
    }
    let activity = if next.is_closed() && !state.is_closed() {
        Activity::new(now, u64::from(packet.sequence))
    } else if !next.counts_bytes() {
        // Not a plain store: the target's answer may write the number to be acknowledged at this very moment.
        // SAFETY: as above; the word is aligned.
        unsafe { compare_and_swap(&raw mut (*flow).activity, activity.0, activity.touched(now).0) };
        return;
    } else if state.counts_bytes() {
        activity.after(now, packet.length())
    } else {
        Activity::new(now, u64::from(packet.length()))
    };
    // SAFETY: as above.
    unsafe { (&raw mut (*flow).activity).write_volatile(activity.0) };
}

/// Makes a flow for the first packet of a connection, if a service asks for it.
#[inline(always)]
fn open<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let key = &scratch.flow;
    let service_key =
        ServiceKey { vip: key.vip, port: key.vip_port, protocol: scratch.packet.protocol, pad: 0 };
    let Some(service) = T::services().get_ptr(&service_key) else { return PASS };
    // SAFETY: a map value; user space replaces an entry by a new element and never writes into one.
    let service = unsafe { *service };
    if let Err(reason) = may_open::<T>(&scratch.packet, &service) {
        return dropped(reason);
    }
    if service.target_count == 0 {
        return dropped(Drop::NoTarget);
    }
    let hash = client_hash(&scratch.flow);
    scratch.target = u32::from(service.first_target) + (hash >> 16) as u32 % u32::from(service.target_count);
    scratch.search.ports = Sequence::new(scratch.client_port, hash);
    if scratch.packet.ttl <= 1 {
        return dropped(Drop::TtlExceeded);
    }
    reservation::open::<T>(scratch)
}

/// Whether a packet may open a flow.
#[inline(always)]
fn may_open<T: Tables>(packet: &Packet<Addr<T>>, service: &Service) -> Result<(), Drop> {
    if packet.malformed != 0 {
        return Err(Drop::Malformed);
    }
    if T::Family::is_martian(&packet.source) || packet.source == packet.destination {
        return Err(Drop::Martian);
    }
    match packet.protocol {
        protocol::TCP => {
            let opening = packet.flags & (flags::SYN | flags::ACK | flags::FIN | flags::RST);
            if opening != flags::SYN {
                let invalid = opening & flags::SYN != 0 && opening & (flags::FIN | flags::RST) != 0;
                return Err(if invalid { Drop::InvalidFlags } else { Drop::NoFlow });
            }
        }
        protocol::SCTP if packet.flags != transport::SCTP_INIT => return Err(Drop::NoFlow),
        _ => {}
    }
    if service.flags & SERVICE_HAS_RANGES != 0 {
        let range = RangeKey { service: service.id.to_be_bytes(), client: packet.source };
        let bits = 32 + <Addr<T> as Address>::LEN as u32 * 8;
        if T::ranges().get(&aya_ebpf::maps::lpm_trie::Key::new(bits, range)).is_none() {
            return Err(Drop::SourceRange);
        }
    }
    Ok(())
}
