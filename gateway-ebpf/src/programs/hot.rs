//! The packets of established flows: one lookup, one rewrite, one redirect. Whatever is not plain here is [`PASS`]ed on to
//! `general`, before anything was changed.

use aya_ebpf::bindings::__sk_buff;

use super::{
    PASS, dropped, entry, now, rewrite,
    skb::Skb,
    tables::{Guarded, Tables, head},
};
use crate::{
    conntrack::State,
    family::{Address, Family},
    maps::{Activity, FlowKey, ReplyKey, TARGET_ACTIVE, TARGET_DRAINING, Target, flow_check},
    packet::{ETHERNET, protocol, transport, transport::flags},
};

/// A reply younger than this is proof that its flow is alive, so that the flow itself need not be looked up. Seconds;
/// below every timeout that the configuration accepts.
const FRESH: u32 = 1;

/// The fields of a plain packet, read straight from its headers.
pub(super) struct Plain<A> {
    pub source: A,
    pub destination: A,
    pub source_port: u16,
    pub destination_port: u16,
    pub protocol: u8,
    /// Address of the IP header.
    pub network: usize,
    /// Length of the IP packet.
    length: u32,
    /// Length of the largest IP packet that leaves here: a super-packet is segmented later.
    largest: u32,
}

/// Loads a value of the packet.
///
/// # Safety
/// The bytes lie below `data_end`. The target has no alignment requirement for packet loads.
#[inline(always)]
unsafe fn load<V: Copy>(address: usize) -> V {
    // SAFETY: as the caller promises.
    unsafe { *(address as *const V) }
}

/// Loads an address of the packet, in words rather than bytes.
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn load_address<A: Address>(address: usize) -> A {
    let mut words = [0u32; 4];
    for (index, word) in words.iter_mut().enumerate().take(A::LEN / 4) {
        // SAFETY: as the caller promises.
        *word = unsafe { load(address + index * 4) };
    }
    A::from_words(words)
}

/// Reads a packet without options, extension headers or fragments, with a TTL to spare, of a TCP segment without SYN, FIN
/// and RST, or of a UDP datagram with a checksum.
#[inline(always)]
fn plain<F: Family>(skb: &Skb) -> Option<Plain<F::Addr>> {
    let (data, data_end) = (skb.data(), skb.data_end());
    let network = data + ETHERNET as usize;
    let at = network + F::HEADER as usize;
    if at + 8 > data_end {
        return None;
    }
    // SAFETY: the fixed headers and eight bytes of the next lie below `data_end`, as just checked.
    let (source, destination, length, ttl, ip_protocol, ports) = unsafe {
        let (length, ttl, ip_protocol, source) = if F::IS_V4 {
            let fragment = u16::from_be(load::<u16>(network + 6)) & 0x3fff;
            if load::<u8>(network) != 0x45 || fragment != 0 {
                return None;
            }
            let length = u32::from(u16::from_be(load::<u16>(network + 2)));
            (length, load::<u8>(network + 8), load::<u8>(network + 9), network + 12)
        } else {
            if load::<u8>(network) >> 4 != 6 {
                return None;
            }
            let length = u32::from(u16::from_be(load::<u16>(network + 4))) + F::HEADER;
            (length, load::<u8>(network + 7), load::<u8>(network + 6), network + 8)
        };
        let destination = source + F::Addr::LEN;
        (load_address(source), load_address(destination), length, ttl, ip_protocol, load::<u32>(at))
    };
    if ttl <= 1 {
        return None;
    }
    let header = match ip_protocol {
        protocol::TCP => {
            if at + transport::TCP_HEADER as usize > data_end {
                return None;
            }
            // SAFETY: a whole TCP header lies below `data_end`.
            let (offset, tcp_flags) = unsafe { (load::<u8>(at + 12), load::<u8>(at + 13)) };
            let header = u32::from(offset >> 4) * 4;
            if header < transport::TCP_HEADER || tcp_flags & (flags::SYN | flags::FIN | flags::RST) != 0 {
                return None;
            }
            header
        }
        protocol::UDP => {
            // SAFETY: eight bytes of the header lie below `data_end`.
            let (udp_length, checksum) = unsafe { (load::<u16>(at + 4), load::<u16>(at + 6)) };
            let udp_length = u32::from(u16::from_be(udp_length));
            if checksum == 0 || udp_length < 8 || udp_length > length.wrapping_sub(F::HEADER) {
                return None;
            }
            8
        }
        _ => return None,
    };
    if length < F::HEADER + header || length + ETHERNET > skb.frame_length() {
        return None;
    }
    let gso_size = skb.gso_size();
    let largest = if gso_size == 0 { length } else { F::HEADER + header + gso_size };
    Some(Plain {
        source,
        destination,
        source_port: u16::from_be(ports as u16),
        destination_port: u16::from_be((ports >> 16) as u16),
        protocol: ip_protocol,
        network,
        length,
        largest,
    })
}

/// Whether a target still takes the packets of its flows without a second look.
#[inline(always)]
fn serves<A>(target: &Target<A>, ip_protocol: u8) -> bool {
    target.state == TARGET_ACTIVE || (target.state == TARGET_DRAINING && ip_protocol == protocol::TCP)
}

/// From a client to its target.
#[inline(never)]
pub fn forward<T: Tables>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    let Some(config) = entry::config::<T>() else { return PASS };
    let Some(packet) = plain::<T::Family>(&skb) else { return PASS };
    if packet.largest > config.cluster_mtu {
        return PASS;
    }
    let key = FlowKey {
        client: packet.source,
        vip: packet.destination,
        client_port: packet.source_port,
        vip_port: packet.destination_port,
        protocol: packet.protocol,
        pad: [0; 3],
    };
    let Some(flow) = T::flows().get_ptr_mut(&key) else { return PASS };
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
    // SAFETY: as above.
    unsafe { (&raw mut (*flow).activity).write_volatile(activity.after(now, packet.length).0) };
    if let Some(stats) = T::stats().get_ptr_mut(target.service) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe {
            (*stats).forward_packets += u64::from(skb.segments());
            (*stats).forward_bytes += u64::from(packet.length);
        }
    }
    let to = rewrite::To {
        source: target.snat,
        destination: target.address,
        source_port: head.snat_port(),
        destination_port: target.port,
    };
    let next_hop = if target.cluster_next_hop.is_zero() { target.address } else { target.cluster_next_hop };
    match rewrite::direct::<T::Family>(&skb, &packet, &to) {
        Ok(()) => skb.redirect::<T::Family>(config.cluster_ifindex, &next_hop),
        Err(reason) => dropped(reason),
    }
}

/// From a target to its client.
#[inline(never)]
pub fn reverse<T: Tables>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    let Some(config) = entry::config::<T>() else { return PASS };
    let Some(packet) = plain::<T::Family>(&skb) else { return PASS };
    if packet.largest > config.external_mtu {
        return PASS;
    }
    let key = ReplyKey {
        target: packet.source,
        snat: packet.destination,
        target_port: packet.source_port,
        snat_port: packet.destination_port,
        protocol: packet.protocol,
        pad: [0; 3],
    };
    let Some(reply) = T::replies().get_ptr_mut(&key) else { return PASS };
    let Some((owner, _)) = T::Family::owner(reply) else { return PASS };
    let Some(target) = T::targets().get(u32::from(owner.target)) else { return PASS };
    let now = now();
    let word = T::Family::activity(reply);
    // SAFETY: within a map value.
    let activity = Activity(unsafe { word.read_volatile() });
    if !serves(target, packet.protocol) || activity.bytes() == 0 || activity.idle(now) > FRESH {
        return PASS;
    }
    let Some(next_hop) = client_next_hop(target, &owner.client) else { return PASS };
    // SAFETY: as above.
    unsafe { word.write_volatile(activity.after(now, packet.length).0) };
    if let Some(stats) = T::stats().get_ptr_mut(target.service) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe {
            (*stats).reverse_packets += u64::from(skb.segments());
            (*stats).reverse_bytes += u64::from(packet.length);
        }
    }
    let to = rewrite::To {
        source: target.vip,
        destination: owner.client,
        source_port: target.vip_port,
        destination_port: owner.client_port,
    };
    match rewrite::direct::<T::Family>(&skb, &packet, &to) {
        Ok(()) => skb.redirect::<T::Family>(config.external_ifindex, &next_hop),
        Err(reason) => dropped(reason),
    }
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
