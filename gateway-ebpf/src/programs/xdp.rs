//! The kernel's packet as an XDP program sees it: a received frame, before there is anything else.

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_redirect};

use super::{
    hop,
    ingress::Ingress,
    plain::{Plain, load},
    rewrite::{self, To},
    tables::{Addr, Tables},
};
use crate::{
    family::Family,
    maps::{Config, Hop, Target},
    packet::ETHERNET,
    verdict::Drop,
};

/// Offset of the EtherType in a frame.
const ETHERTYPE: usize = 12;

/// A frame.
#[derive(Clone, Copy)]
pub struct Xdp(pub *mut xdp_md);

impl Xdp {
    /// Whether the frame is of family `F` and of no VLAN.
    #[inline(always)]
    pub fn is_for<F: Family>(&self) -> bool {
        let data = self.data();
        // SAFETY: the whole Ethernet header lies below `data_end`, as checked first.
        data + ETHERNET as usize <= self.data_end()
            && unsafe { load::<u16>(data + ETHERTYPE) } == F::ETHERTYPE.to_be()
    }
}

/// The cluster link, and what a frame to the neighbour there begins with.
#[derive(Clone, Copy)]
pub struct Way {
    ifindex: u32,
    ethernet: hop::Ethernet,
}

impl Ingress for Xdp {
    type Way<A: Copy> = Way;

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).data_end as usize }
    }

    /// Of a frame in several buffers the first alone, so that the packet does not fit into it and is left to tc: many devices
    /// cannot send such a frame.
    #[inline(always)]
    fn frame_length(&self) -> u32 {
        (self.data_end() - self.data()) as u32
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        1
    }

    /// A checksum that a device is still to fill in is the tc program's: a frame that is sent from here has nobody who would.
    #[inline(always)]
    fn way<T: Tables>(
        &self,
        packet: &Plain<T::Family>,
        config: &Config,
        target: &Target<Addr<T>>,
        now: u32,
    ) -> Option<Way> {
        let (hop, ethernet) = hop::to(T::hop(), target, now)?;
        if !is_to(packet.ethernet(), hop) || rewrite::may_be_pending(packet) {
            return None;
        }
        Some(Way { ifindex: config.cluster_ifindex, ethernet })
    }

    #[inline(always)]
    fn rewrite<F: Family>(&self, packet: &Plain<F>, to: &To<F::Addr>, way: Way) -> Result<(), Drop> {
        packet.set_ethernet(way.ethernet);
        rewrite::complete(packet, to);
        Ok(())
    }

    #[inline(always)]
    fn send<T: Tables>(&self, way: Way) -> i32 {
        let sent = T::xdp_device().redirect(0, 0).unwrap_or_else(|_| {
            // SAFETY: the helper takes plain numbers.
            unsafe { bpf_redirect(way.ifindex, 0) as u32 }
        });
        sent as i32
    }
}

/// Whether the frame at `ethernet` is addressed to the external link itself: the kernel tells that only behind XDP.
#[inline(always)]
fn is_to<A>(ethernet: usize, hop: *const Hop<A>) -> bool {
    // SAFETY: the Ethernet header was found below `data_end`; `external` is six bytes of a map value at a multiple of four.
    unsafe {
        let own = (&raw const (*hop).external).cast::<u32>();
        load::<u32>(ethernet) == *own && load::<u16>(ethernet + 4) == *own.add(1).cast::<u16>()
    }
}
