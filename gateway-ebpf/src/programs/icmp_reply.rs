//! ICMP errors that the gateway itself makes, out of the packet that they are about.
//!
//! The kernel's own would leave through the wrong link with the wrong source for clients behind a router, because they are
//! routed without regard to where the packet came from.

use aya_ebpf::{
    bindings::{BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_store_bytes},
};

use super::{
    dropped, now, repeat,
    skb::Skb,
    tables::{Addr, Scratch, Tables, config, count_drop},
};
use crate::{
    checksum::{Delta, fold},
    family::{Address, Family},
    packet::{Bytes, ETHERNET, Packet, fragment, protocol, transport},
    verdict::Drop,
};

/// Length of the ICMP header before the quoted packet.
const ICMP_HEADER: u32 = 8;
/// The longest error about an IPv4 packet (RFC 1812, 4.3.2.3).
const MAX_V4: u32 = 576;
/// The longest error about an IPv6 packet: the minimum MTU (RFC 4443, 2.4).
const MAX_V6: u32 = 1280;
/// TTL and hop limit of our own packets (RFC 1340).
const TTL: u8 = 64;
/// Precedence of IPv4 error messages: internetwork control (RFC 1812, 4.3.2.5).
const TOS: u8 = 0xc0;

/// Turns the packet into an error about itself and sends it back to `scratch.next_hop`, or drops it if the rate of errors is
/// spent. Counts it as dropped for `reason` either way. `scratch.mtu` is what the next link carries; 0: the error is that the TTL
/// was exceeded.
#[inline(never)]
pub(super) fn send<T: Tables>(skb: Skb, scratch: &Scratch<Addr<T>>, reason: Drop) -> i32 {
    // RFC 1122, 3.2.2: not about a later fragment. IPv6 asks for packet-too-big even then.
    if (T::Family::IS_V4 && scratch.packet.fragment == fragment::LATER) || !within_budget::<T>() {
        return dropped(reason);
    }
    match build::<T::Family>(skb, scratch) {
        Ok(()) => {
            count_drop::<T>(reason as u32);
            skb.redirect::<T::Family>(scratch.ifindex, &scratch.next_hop)
        }
        Err(_) => dropped(reason),
    }
}

/// Takes one error out of this second's budget of this CPU.
#[inline(always)]
fn within_budget<T: Tables>() -> bool {
    let (Some(config), Some(budget)) = (config::<T>(), T::icmp_budget().get_ptr_mut(0)) else {
        return false;
    };
    let now = now();
    // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
    unsafe {
        if (*budget).second != now {
            (*budget).second = now;
            (*budget).spent = 0;
        }
        if (*budget).spent >= config.icmp_rate {
            return false;
        }
        (*budget).spent += 1;
    }
    true
}

/// Makes room in front of the packet and writes the headers of the error there.
#[inline(always)]
fn build<F: Family>(skb: Skb, scratch: &Scratch<F::Addr>) -> Result<(), Drop> {
    let packet = &scratch.packet;
    let limit = if F::IS_V4 { MAX_V4 } else { MAX_V6 };
    let headers = F::HEADER + ICMP_HEADER;
    // Whole words, so that the sum has no odd end; up to three bytes of the quote are no loss.
    let quoted = core::cmp::min(packet.length(), limit - headers) & !3;
    let pending = pending_checksum(skb, packet)?;
    // SAFETY: the context is valid.
    unsafe {
        if bpf_skb_change_tail(skb.0, ETHERNET + quoted, 0) != 0
            || bpf_skb_adjust_room(skb.0, headers as i32, BPF_ADJ_ROOM_MAC, 0) != 0
        {
            return Err(Drop::Helper);
        }
    }
    let quote = ETHERNET + headers;
    let sum = match pending {
        // The device, or the receiver, is still to fill in the quoted transport checksum. Afterwards everything from the
        // transport header on adds up to the complement of what stands in the field now.
        Some(field) => sum(skb, quote, packet.transport - ETHERNET)? + u64::from(!field),
        None => sum(skb, quote, quoted)?,
    };
    if F::IS_V4 { write_v4(skb, scratch, quoted, sum) } else { write_v6(skb, scratch, quoted, sum) }
}

/// The transport checksum field, if it holds only the sum of the pseudo-header (CHECKSUM_PARTIAL).
///
/// No field of the context tells. But then the kernel's helper leaves the field alone when anything else than the
/// pseudo-header changes, and so it is asked to add one.
#[inline(always)]
fn pending_checksum<A>(skb: Skb, packet: &Packet<A>) -> Result<Option<u16>, Drop> {
    let at = packet.transport
        + match packet.protocol {
            protocol::TCP => transport::TCP_CHECKSUM,
            protocol::UDP => transport::UDP_CHECKSUM,
            _ => return Ok(None),
        };
    if packet.fragment != fragment::NONE || (packet.protocol == protocol::UDP && packet.checksum == 0) {
        return Ok(None);
    }
    let before: [u8; 2] = skb.read(at).ok_or(Drop::Helper)?;
    skb.update_transport_checksum(packet.protocol, packet.transport, Delta::ZERO.word(0, 1), false)?;
    let after: [u8; 2] = skb.read(at).ok_or(Drop::Helper)?;
    if before == after {
        return Ok(Some(u16::from_ne_bytes(before)));
    }
    skb.write(at, &before)?;
    Ok(None)
}

/// A sum in the making.
struct Sum {
    skb: Skb,
    at: u32,
    end: u32,
    total: u64,
    failed: bool,
}

/// Adds up `length` bytes, a multiple of four and at most [`MAX_V6`], from `from` on.
#[inline(always)]
fn sum(skb: Skb, from: u32, length: u32) -> Result<u64, Drop> {
    let mut sum = Sum { skb, at: from, end: from + length, total: 0, failed: false };
    repeat(MAX_V6 / BLOCK, add_block, &mut sum);
    repeat(BLOCK / WORD, add_word, &mut sum);
    if sum.failed || sum.at != sum.end { Err(Drop::Helper) } else { Ok(sum.total) }
}

/// Bytes that [`add_block`] adds.
const BLOCK: u32 = 32;
/// Bytes that [`add_word`] adds.
const WORD: u32 = 4;

/// Adds up the next block.
extern "C" fn add_block(_index: u32, sum: *mut Sum) -> i64 {
    // SAFETY: `repeat` passes the sum on.
    add::<{ BLOCK as usize / 4 }>(unsafe { &mut *sum })
}

/// Adds up the next word.
extern "C" fn add_word(_index: u32, sum: *mut Sum) -> i64 {
    // SAFETY: `repeat` passes the sum on.
    add::<{ WORD as usize / 4 }>(unsafe { &mut *sum })
}

/// Adds up the next `N` words, unless the end is nearer.
#[inline(always)]
fn add<const N: usize>(sum: &mut Sum) -> i64 {
    if sum.at + N as u32 * 4 > sum.end {
        return 1;
    }
    let Some(words) = sum.skb.read_as::<[u32; N]>(sum.at) else {
        sum.failed = true;
        return 1;
    };
    for word in words {
        sum.total += u64::from(word);
    }
    sum.at += N as u32 * 4;
    0
}

/// Folds a sum of words to a checksum.
#[inline(always)]
const fn finish(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    !fold(sum as u32)
}

/// Adds up 16-bit words.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut sum = 0;
    let mut index = 0;
    while index + 1 < N {
        sum += u64::from(u16::from_ne_bytes([bytes[index], bytes[index + 1]]));
        index += 2;
    }
    sum
}

/// Writes bytes and keeps the sum of the whole packet (CHECKSUM_COMPLETE) right.
#[inline(always)]
fn store<const N: usize>(skb: Skb, offset: u32, bytes: &[u8; N]) -> Result<(), Drop> {
    // SAFETY: the context is valid, and `bytes` holds N bytes.
    match unsafe {
        bpf_skb_store_bytes(skb.0, offset, bytes.as_ptr().cast(), N as u32, u64::from(BPF_F_RECOMPUTE_CSUM))
    } {
        0 => Ok(()),
        _ => Err(Drop::Helper),
    }
}

/// Fragmentation needed, with the MTU (RFC 1191), or time exceeded (RFC 792).
#[inline(always)]
fn write_v4<A: Address>(skb: Skb, scratch: &Scratch<A>, quoted: u32, sum: u64) -> Result<(), Drop> {
    let total = ((20 + ICMP_HEADER + quoted) as u16).to_be_bytes();
    let [a, b, c, d] = scratch.icmp_source.words()[0].to_ne_bytes();
    let [e, f, g, h] = scratch.packet.source.words()[0].to_ne_bytes();
    let mut ip =
        [0x45, TOS, total[0], total[1], 0, 0, 0, 0, TTL, protocol::ICMP, 0, 0, a, b, c, d, e, f, g, h];
    let check = finish(words(&ip)).to_ne_bytes();
    ip[10] = check[0];
    ip[11] = check[1];
    let mtu = (scratch.mtu as u16).to_be_bytes();
    let mut icmp =
        if scratch.mtu == 0 { [11, 0, 0, 0, 0, 0, 0, 0] } else { [3, 4, 0, 0, 0, 0, mtu[0], mtu[1]] };
    let check = finish(words(&icmp) + sum).to_ne_bytes();
    icmp[2] = check[0];
    icmp[3] = check[1];
    store(skb, ETHERNET, &ip)?;
    store(skb, ETHERNET + 20, &icmp)
}

/// Packet too big, or time exceeded (RFC 4443).
#[inline(always)]
fn write_v6<A: Address>(skb: Skb, scratch: &Scratch<A>, quoted: u32, sum: u64) -> Result<(), Drop> {
    let length = ICMP_HEADER + quoted;
    let [a, b] = (length as u16).to_be_bytes();
    let mtu = scratch.mtu.to_be_bytes();
    let mut icmp = if scratch.mtu == 0 {
        [3, 0, 0, 0, 0, 0, 0, 0]
    } else {
        [2, 0, 0, 0, mtu[0], mtu[1], mtu[2], mtu[3]]
    };
    let mut pseudo = u64::from(length.to_be()) + u64::from(u32::from(protocol::ICMPV6).to_be());
    for word in scratch.icmp_source.words() {
        pseudo += u64::from(word);
    }
    for word in scratch.packet.source.words() {
        pseudo += u64::from(word);
    }
    let check = finish(words(&icmp) + pseudo + sum).to_ne_bytes();
    icmp[2] = check[0];
    icmp[3] = check[1];
    store(skb, ETHERNET, &[0x60, 0, 0, 0, a, b, protocol::ICMPV6, TTL])?;
    store::<16>(skb, ETHERNET + 8, &bytemuck::cast(scratch.icmp_source.words()))?;
    store::<16>(skb, ETHERNET + 24, &bytemuck::cast(scratch.packet.source.words()))?;
    store(skb, ETHERNET + 40, &icmp)
}
