//! IPv4 packets without the don't-fragment bit that are too big for the next link: the one case that the kernel's stack
//! finishes.
//!
//! Ingress rewrites everything but the source address: a packet with a foreign source is forwarded, one that carries our own
//! address as its source would be dropped as martian. The stack routes and fragments it; egress of the other link gives each
//! fragment its source address. The transport checksum is final already at ingress, since later fragments do not carry it.

use super::{
    skb::Skb,
    tables::{Tables, config},
};
use crate::{
    checksum::Delta,
    family::V4,
    packet::{Bytes, ETHERNET, ipv4},
    verdict::Drop,
};

/// Upper half of the mark of a packet on the slow path; the lower half is the target's id. The mark never leaves the pod's
/// network namespace.
const MAGIC: u32 = 0x51ce_0000;

/// The mark for packets of a target.
#[inline(always)]
pub(super) const fn mark(target: u32) -> u32 {
    MAGIC | target
}

/// Whether a packet is on the slow path.
#[inline(always)]
pub(super) const fn is_marked(mark: u32) -> bool {
    mark & 0xffff_0000 == MAGIC
}

/// Gives a packet that leaves the stack its source address.
#[inline(always)]
pub(super) fn finish<T: Tables<Family = V4>>(skb: &Skb) -> Result<(), Drop> {
    let target = T::targets().get(skb.mark() & 0xffff).ok_or(Drop::Unconfigured)?;
    let config = config::<T>().ok_or(Drop::Unconfigured)?;
    let source = if skb.ifindex() == config.cluster_ifindex { target.snat } else { target.vip };
    let h: [u8; 6] = skb.read(ETHERNET + ipv4::CHECKSUM).ok_or(Drop::Helper)?;
    let check = u16::from_ne_bytes([h[0], h[1]]);
    let old = [h[2], h[3], h[4], h[5]];
    let [a, b] = Delta::ZERO.address(&old, &source).apply(check).to_ne_bytes();
    let [c, d, e, f] = source;
    skb.write(ETHERNET + ipv4::CHECKSUM, &[a, b, c, d, e, f])?;
    skb.set_mark(0);
    Ok(())
}
