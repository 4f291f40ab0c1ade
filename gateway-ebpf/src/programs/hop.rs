//! The neighbour on the cluster link where user space has told it.

use super::{flow::next_hop, tables::Hops};
use crate::{
    family::Address,
    maps::{Hop, Target},
};

/// Destination and source of a frame, as they lie in memory.
pub type Ethernet = [u32; 3];

/// What is told of the neighbour through which `target` is reached, if that still holds.
#[inline(always)]
pub(super) fn to<A: Address>(
    hops: &Hops<A>,
    target: &Target<A>,
    now: u32,
) -> Option<(*const Hop<A>, Ethernet)> {
    let hop = hops.get_ptr(0)?;
    // SAFETY: a map value; user space takes a hop out of force before it changes anything but its time.
    let (until, address) = unsafe { (core::ptr::read_volatile(&raw const (*hop).until), (*hop).address) };
    if until.wrapping_sub(now) as i32 <= 0 || address != next_hop(target) {
        return None;
    }
    // SAFETY: both Ethernet addresses are twelve bytes of the map value, the first at a multiple of four.
    Some((hop, unsafe { *(&raw const (*hop).destination).cast::<Ethernet>() }))
}
