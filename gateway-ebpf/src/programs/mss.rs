//! Clamping the maximum segment size that a TCP peer announces (RFC 9293, 3.7.1), so that segments fit both links.

use super::{repeat, skb::Skb};
use crate::{
    checksum::Delta,
    family::Family,
    maps::Config,
    packet::{Bytes, Packet, transport},
    verdict::Drop,
};

const OPTION_END: u8 = 0;
const OPTION_NOOP: u8 = 1;
const OPTION_MSS: u8 = 2;
/// A TCP header has room for 40 bytes of options.
const MAX_OPTIONS: u32 = 40;

/// The largest segment that both links carry.
#[inline(always)]
pub(super) fn largest<F: Family>(config: &Config) -> u16 {
    let mtu = if config.external_mtu < config.cluster_mtu { config.external_mtu } else { config.cluster_mtu };
    let room = mtu.saturating_sub(F::HEADER + transport::TCP_HEADER);
    if room > 0xffff { 0xffff } else { room as u16 }
}

/// A walk over the options of a TCP header.
struct Walk {
    skb: Skb,
    at: u32,
    end: u32,
    /// Offset of the MSS option's value; 0: not found yet.
    found: u32,
}

/// Lowers the MSS option of a SYN to `largest`, if it has one that is higher.
#[inline(always)]
pub(super) fn clamp<A>(skb: Skb, packet: &Packet<A>, largest: u16) -> Result<(), Drop> {
    let mut walk = Walk {
        skb,
        at: packet.transport + transport::TCP_HEADER,
        end: packet.transport + u32::from(packet.header),
        found: 0,
    };
    repeat(MAX_OPTIONS, step, &mut walk);
    if walk.found == 0 {
        return Ok(());
    }
    let Some(old) = skb.read::<2>(walk.found) else { return Ok(()) };
    let old = u16::from_be_bytes(old);
    if old > largest { replace(skb, packet, walk.found, old, largest) } else { Ok(()) }
}

/// Looks at the next option.
extern "C" fn step(_index: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `repeat` passes the walk on.
    let walk = unsafe { &mut *walk };
    if walk.at >= walk.end {
        return 1;
    }
    let Some([kind]) = walk.skb.read(walk.at) else { return 1 };
    if kind == OPTION_NOOP {
        walk.at += 1;
        return 0;
    }
    let Some([length]) = walk.skb.read(walk.at + 1) else { return 1 };
    if kind == OPTION_END || length < 2 {
        return 1;
    }
    if kind == OPTION_MSS && length == 4 && walk.at + 4 <= walk.end {
        walk.found = walk.at + 2;
        return 1;
    }
    walk.at += u32::from(length);
    0
}

/// Writes the value at `at` and mends the checksum.
#[inline(always)]
fn replace<A>(skb: Skb, packet: &Packet<A>, at: u32, old: u16, new: u16) -> Result<(), Drop> {
    skb.write(at, &new.to_be_bytes())?;
    // At an odd offset each byte stands in the other half of the checksum's words.
    let delta = if (at - packet.transport) & 1 == 0 {
        Delta::ZERO.port(old, new)
    } else {
        Delta::ZERO.port(old.swap_bytes(), new.swap_bytes())
    };
    skb.update_transport_checksum(packet.protocol, packet.transport, delta, false)
}
