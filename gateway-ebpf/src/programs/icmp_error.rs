//! ICMP errors about our flows, from either side: translated outside and inside (RFC 5508, section 4).

use super::{
    CONTINUE, PASS, dropped,
    flow::{client_next_hop, is_live, next_hop, owner_flow},
    rewrite::{self, To},
    skb::Skb,
    tables::{Addr, Scratch, Tables, config, head},
};
use crate::{
    checksum::Delta,
    conntrack::Direction,
    family::{Address, Family},
    maps::{FlowKey, ReplyKey},
    packet::{Bytes, Network as _, fragment, ipv4, ipv6, protocol, transport},
    verdict::Drop,
};

/// Offset of the quoted packet in the ICMP message.
const QUOTE: u32 = 8;
/// Offset of the checksum in the ICMP message.
const CHECKSUM: u32 = 2;

/// Whether an ICMP type reports an error about the packet it quotes.
#[inline(always)]
const fn is_error<F: Family>(kind: u8) -> bool {
    if F::IS_V4 {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 11 | 12)
    } else {
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        matches!(kind, 1..=4)
    }
}

/// Translates and sends an error; everything that is not an error about one of our flows is the kernel's.
#[inline(never)]
pub(super) fn translate<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>, direction: Direction) -> i32 {
    let packet = &scratch.packet;
    if !is_error::<T::Family>(packet.flags) || packet.fragment != fragment::NONE {
        return PASS;
    }
    if parse_quoted::<T>(skb, scratch) != CONTINUE {
        return PASS;
    }
    let found = match direction {
        Direction::Forward => towards_target::<T>(scratch),
        Direction::Reverse => towards_client::<T>(scratch),
    };
    if found != CONTINUE {
        return found;
    }
    rewrite_both::<T>(skb, scratch)
}

/// Parses the quoted packet, as far as its ports.
#[inline(never)]
fn parse_quoted<T: Tables>(skb: Skb, scratch: &mut Scratch<Addr<T>>) -> i32 {
    let (packet, inner) = (&scratch.packet, &mut scratch.inner);
    if T::Family::parse(&skb, packet.transport + QUOTE, true, inner).is_err() {
        return PASS;
    }
    let quoted = &*inner;
    if quoted.fragment == fragment::LATER
        || quoted.source != packet.destination
        || quoted.transport + 8 > packet.end
    {
        return PASS;
    }
    let Some([a, b, c, d]) = skb.read::<4>(quoted.transport) else { return PASS };
    inner.source_port = u16::from_be_bytes([a, b]);
    inner.destination_port = u16::from_be_bytes([c, d]);
    CONTINUE
}

/// From outside, about a packet that a target sent to a client.
#[inline(never)]
fn towards_target<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let inner = &scratch.inner;
    scratch.rival = FlowKey {
        client: inner.destination,
        vip: inner.source,
        client_port: inner.destination_port,
        vip_port: inner.source_port,
        protocol: u32::from(inner.protocol),
    };
    let Some(flow) = T::flows().get_ptr_mut(&scratch.rival) else { return PASS };
    let current = head(flow);
    if !is_live::<T>(scratch, flow, current, false) {
        return PASS;
    }
    let (Some(target), Some(config)) = (T::targets().get(u32::from(current.target())), config::<T>()) else {
        return PASS;
    };
    scratch.to = To { source: target.snat, destination: target.address, source_port: 0, destination_port: 0 };
    scratch.inner_to = To {
        source: target.address,
        destination: target.snat,
        source_port: target.port,
        destination_port: current.snat_port(),
    };
    scratch.next_hop = next_hop(target);
    scratch.ifindex = config.cluster_ifindex;
    scratch.mtu = config.cluster_mtu;
    CONTINUE
}

/// From the cluster, about a packet that a client sent to a target.
#[inline(never)]
fn towards_client<T: Tables>(scratch: &mut Scratch<Addr<T>>) -> i32 {
    let inner = &scratch.inner;
    scratch.reply = ReplyKey {
        target: inner.destination,
        snat: inner.source,
        target_port: inner.destination_port,
        snat_port: inner.source_port,
        protocol: u32::from(inner.protocol),
    };
    let Some(reply) = T::replies().get_ptr_mut(&scratch.reply) else { return PASS };
    let flow = match owner_flow::<T>(scratch, reply) {
        Ok(flow) => flow,
        Err(verdict) => return verdict,
    };
    if !is_live::<T>(scratch, flow, head(flow), false) {
        return PASS;
    }
    let (Some(target), Some(config)) = (T::targets().get(scratch.target), config::<T>()) else {
        return PASS;
    };
    let Some(next_hop) = client_next_hop(target, &scratch.client) else { return dropped(Drop::NoRoute) };
    scratch.to = To { source: target.vip, destination: scratch.client, source_port: 0, destination_port: 0 };
    scratch.inner_to = To {
        source: scratch.client,
        destination: target.vip,
        source_port: scratch.client_port,
        destination_port: target.vip_port,
    };
    scratch.next_hop = next_hop;
    scratch.ifindex = config.external_ifindex;
    scratch.mtu = config.external_mtu;
    CONTINUE
}

/// Rewrites both packets and sends the error.
#[inline(never)]
fn rewrite_both<T: Tables>(skb: Skb, scratch: &Scratch<Addr<T>>) -> i32 {
    match rewrite::<T::Family>(skb, scratch) {
        Ok(()) => skb.redirect::<T::Family>(scratch.ifindex, &scratch.next_hop),
        Err(reason) => dropped(reason),
    }
}

/// Rewrites the quoted packet, the ICMP checksum that covers it, and the network header.
#[inline(always)]
fn rewrite<F: Family>(skb: Skb, scratch: &Scratch<F::Addr>) -> Result<(), Drop> {
    let (packet, inner, to) = (&scratch.packet, &scratch.inner, &scratch.inner_to);
    // An error is answered by no further error: too long or too old, it ends here.
    if packet.ttl <= 1 {
        return Err(Drop::TtlExceeded);
    }
    if packet.length() > scratch.mtu {
        return Err(Drop::IcmpError);
    }
    let quote = packet.transport + QUOTE;
    let addresses = rewrite::addresses::<F>(inner, to);
    let ports =
        Delta::ZERO.port(inner.source_port, to.source_port).port(inner.destination_port, to.destination_port);
    let mut changed = addresses.and(ports);

    if F::IS_V4 {
        let check = skb.read(quote + ipv4::CHECKSUM).ok_or(Drop::IcmpError)?;
        changed = replace(skb, quote + ipv4::CHECKSUM, check, addresses, changed)?;
    }
    let source = quote + if F::IS_V4 { ipv4::SOURCE } else { ipv6::SOURCE };
    skb.write_address(source, &to.source)?;
    skb.write_address(source + F::Addr::LEN as u32, &to.destination)?;
    let [a, b] = to.source_port.to_be_bytes();
    let [c, d] = to.destination_port.to_be_bytes();
    skb.write(inner.transport, &[a, b, c, d])?;

    let transport_checksum = match inner.protocol {
        protocol::TCP => inner.transport + transport::TCP_CHECKSUM,
        protocol::UDP => inner.transport + transport::UDP_CHECKSUM,
        _ => 0,
    };
    // RFC 792 promises only eight bytes of the quoted transport header, too few for TCP's checksum.
    if transport_checksum != 0 && transport_checksum + 2 <= packet.end {
        let check: [u8; 2] = skb.read(transport_checksum).ok_or(Drop::IcmpError)?;
        if inner.protocol == protocol::TCP || check != [0, 0] {
            changed = replace(skb, transport_checksum, check, addresses.and(ports), changed)?;
        }
    }
    if !F::IS_V4 {
        // The pseudo-header of ICMPv6.
        changed = changed.and(rewrite::addresses::<F>(packet, &scratch.to));
    }
    let check = skb.read(packet.transport + CHECKSUM).ok_or(Drop::IcmpError)?;
    replace(skb, packet.transport + CHECKSUM, check, changed, Delta::ZERO)?;

    // Inside and outside cancel in the sum of the whole packet, but for the hop limit.
    let uncovered = rewrite::network::<F>(&skb, packet, &scratch.to, rewrite::Rest::Nothing)?;
    skb.update_complete_checksum(uncovered);
    Ok(())
}

/// Applies `delta` to the checksum `check` at `at`, and adds the change of that field to `changed`.
#[inline(always)]
fn replace(skb: Skb, at: u32, check: [u8; 2], delta: Delta, changed: Delta) -> Result<Delta, Drop> {
    let old = u16::from_ne_bytes(check);
    let new = delta.apply(old);
    skb.write(at, &new.to_ne_bytes())?;
    Ok(changed.word(old, new))
}
