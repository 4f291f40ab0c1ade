//! Full NAT of one packet: addresses, ports, TTL and every checksum that covers them.
//!
//! All differences are computed before the first byte is written. Where a device delivered the sum of the whole packet
//! (CHECKSUM_COMPLETE), that sum changes as follows. IPv4: the header checksum cancels what the header changes; the transport
//! checksum cancels the ports and, through the pseudo-header, takes the addresses off once more, which the kernel's helper
//! accounts for. IPv6: addresses and transport checksum cancel, but the helper has taken the addresses off, so that they are
//! given back here together with the hop limit, which nothing covers. A UDP checksum of zero cancels nothing.

use super::{
    plain::{Plain, store},
    skb::Skb,
};
use crate::{
    checksum::Delta,
    family::{Address, Family},
    packet::{Bytes, ETHERNET, Packet, fragment, ipv4, ipv6, protocol},
    verdict::Drop,
};

/// What a packet's addresses and ports become.
#[derive(Clone, Copy)]
pub struct To<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port, host byte order.
    pub source_port: u16,
    /// Destination port, host byte order.
    pub destination_port: u16,
}

/// Stores an address into the packet, in words as long as can be rather than bytes.
///
/// # Safety
/// As [`store`].
#[inline(always)]
unsafe fn store_address<A: Address>(at: usize, value: &A) {
    let words = value.words();
    // SAFETY: as the caller promises.
    unsafe {
        if A::LEN == 4 {
            store(at, words[0]);
        } else {
            store(at, bytemuck::cast::<_, [u64; 2]>(words));
        }
    }
}

/// Rewrites a plain packet through direct access.
#[inline(always)]
pub(super) fn direct<F: Family>(skb: &Skb, packet: &Plain<F>, to: &To<F::Addr>) -> Result<(), Drop> {
    if !packet.segmented && !may_be_pending(packet) {
        let addresses = complete(packet, to);
        skb.update_complete_checksum(if F::IS_V4 { addresses.negate() } else { HOP_LIMIT_LESS });
        return Ok(());
    }
    let (addresses, ports) = changes(packet, to);
    write_headers(packet, to, addresses);
    let at = ETHERNET + F::HEADER;
    skb.update_transport_checksum(packet.protocol, at, addresses, true)?;
    skb.update_transport_checksum(packet.protocol, at, ports, false)?;
    if !F::IS_V4 {
        skb.update_complete_checksum(addresses.and(HOP_LIMIT_LESS));
    }
    Ok(())
}

/// Rewrites a plain packet whose transport checksum is there, and says what its addresses change.
#[inline(always)]
pub(super) fn complete<F: Family>(packet: &Plain<F>, to: &To<F::Addr>) -> Delta {
    let (addresses, ports) = changes(packet, to);
    let changed = match addresses.and(ports).apply(packet.transport_checksum()) {
        // A UDP checksum of zero would mean that there is none (RFC 768).
        0 if packet.protocol == protocol::UDP => 0xffff,
        changed => changed,
    };
    write_headers(packet, to, addresses);
    // SAFETY: `Plain` was made only after its headers were found below `data_end`.
    unsafe { store(packet.checksum, changed) };
    addresses
}

/// The differences that new addresses and new ports make.
#[inline(always)]
fn changes<F: Family>(packet: &Plain<F>, to: &To<F::Addr>) -> (Delta, Delta) {
    let addresses = Delta::ZERO
        .without(&packet.source())
        .without(&packet.destination())
        .with(&to.source)
        .with(&to.destination);
    let ports = Delta::ZERO
        .port(packet.source_port, to.source_port)
        .port(packet.destination_port, to.destination_port);
    (addresses, ports)
}

/// What one hop less makes of the IPv4 word of TTL and protocol.
const TTL_LESS: Delta = Delta::ZERO.word(0x100_u16.to_be(), 0);
/// What one hop less makes of the IPv6 word of next header and hop limit.
const HOP_LIMIT_LESS: Delta = Delta::ZERO.word(1_u16.to_be(), 0);

/// Writes TTL, addresses, ports and the IPv4 header's checksum.
#[inline(always)]
fn write_headers<F: Family>(packet: &Plain<F>, to: &To<F::Addr>, addresses: Delta) {
    let network = packet.network;
    // SAFETY: `Plain` was made only after its headers were found below `data_end`, and with a TTL above 1.
    unsafe {
        if F::IS_V4 {
            let (ttl, checksum) = (network + ipv4::TTL as usize, network + ipv4::CHECKSUM as usize);
            store(ttl, *(ttl as *const u8) - 1);
            store(checksum, addresses.and(TTL_LESS).apply(*(checksum as *const u16)));
        } else {
            let hop_limit = network + ipv6::HOP_LIMIT as usize;
            store(hop_limit, *(hop_limit as *const u8) - 1);
        }
        store_address(packet.addresses(), &to.source);
        store_address(packet.addresses() + F::Addr::LEN, &to.destination);
        let ports = u32::from(to.source_port.to_be()) | u32::from(to.destination_port.to_be()) << 16;
        store(network + F::HEADER as usize, ports);
    }
}

/// Whether a transport checksum may be one that a device is still to complete (CHECKSUM_PARTIAL). No field of the context tells, but
/// such a checksum is the sum of the pseudo-header. One in 65 536 of all others looks the same.
#[inline(always)]
pub(super) fn may_be_pending<F: Family>(packet: &Plain<F>) -> bool {
    let length = (packet.length - F::HEADER) as u16;
    let rest = Delta::ZERO
        .without(&packet.source())
        .without(&packet.destination())
        .word(length.to_be(), packet.transport_checksum())
        .word(u16::from(packet.protocol).to_be(), 0);
    matches!(rest.sum16(), 0 | 0xffff)
}

/// What the kernel's stack will still do to the packet, if it goes there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: the packet is redirected.
    Nothing,
    /// Route, fragment and send it; the source address and the TTL are left to that path.
    Stack,
}

/// Rewrites any packet, wherever its transport header is.
#[inline(always)]
pub(super) fn anywhere<F: Family>(
    skb: &Skb,
    packet: &Packet<F::Addr>,
    to: &To<F::Addr>,
    rest: Rest,
) -> Result<(), Drop> {
    let addresses = addresses::<F>(packet, to);
    let mut uncovered = network::<F>(skb, packet, to, rest)?;
    if packet.fragment != fragment::LATER {
        let ports = Delta::ZERO
            .port(packet.source_port, to.source_port)
            .port(packet.destination_port, to.destination_port);
        let [a, b] = to.source_port.to_be_bytes();
        let [c, d] = to.destination_port.to_be_bytes();
        skb.write(packet.transport, &[a, b, c, d])?;
        if has_checksum(packet) {
            skb.update_transport_checksum(packet.protocol, packet.transport, addresses, true)?;
            skb.update_transport_checksum(packet.protocol, packet.transport, ports, false)?;
        } else {
            uncovered = uncovered.and(ports);
        }
    }
    if !F::IS_V4 {
        uncovered = uncovered.and(addresses);
    }
    skb.update_complete_checksum(uncovered);
    Ok(())
}

/// The difference that new addresses make.
#[inline(always)]
pub(super) fn addresses<F: Family>(packet: &Packet<F::Addr>, to: &To<F::Addr>) -> Delta {
    Delta::ZERO.address(&packet.source, &to.source).address(&packet.destination, &to.destination)
}

/// Rewrites the network header. Returns what of it nothing covers: the IPv6 hop limit.
#[inline(always)]
pub(super) fn network<F: Family>(
    skb: &Skb,
    packet: &Packet<F::Addr>,
    to: &To<F::Addr>,
    rest: Rest,
) -> Result<Delta, Drop> {
    let mut uncovered = Delta::ZERO;
    let source = ETHERNET + if F::IS_V4 { ipv4::SOURCE } else { ipv6::SOURCE };
    if F::IS_V4 {
        let h: [u8; 4] = skb.read(ETHERNET + ipv4::TTL).ok_or(Drop::Helper)?;
        let ttl = u16::from_ne_bytes([h[0], h[1]]);
        let check = u16::from_ne_bytes([h[2], h[3]]);
        // The TTL is the first byte of its word in memory, above 1.
        let (less, delta) = match rest {
            Rest::Nothing => (ttl - 1, addresses::<F>(packet, to).word(ttl, ttl - 1)),
            Rest::Stack => (ttl, Delta::ZERO.address(&packet.destination, &to.destination)),
        };
        let [a, b] = less.to_ne_bytes();
        let [c, d] = delta.apply(check).to_ne_bytes();
        skb.write(ETHERNET + ipv4::TTL, &[a, b, c, d])?;
    } else {
        let less = packet.ttl - 1;
        skb.write(ETHERNET + ipv6::HOP_LIMIT, &[less])?;
        uncovered = uncovered.word(u16::from_ne_bytes([0, packet.ttl]), u16::from_ne_bytes([0, less]));
    }
    if rest == Rest::Nothing {
        skb.write_address(source, &to.source)?;
    }
    skb.write_address(source + F::Addr::LEN as u32, &to.destination)?;
    Ok(uncovered)
}

/// Whether the transport header has a checksum over the pseudo-header.
#[inline(always)]
const fn has_checksum<A>(packet: &Packet<A>) -> bool {
    match packet.protocol {
        protocol::TCP => true,
        protocol::UDP => packet.checksum != 0,
        _ => false,
    }
}
