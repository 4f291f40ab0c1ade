//! The kernel's packet as a tc program sees it.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS,
        bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
    },
    helpers::generated::{
        bpf_check_mtu, bpf_csum_update, bpf_l4_csum_replace, bpf_redirect_neigh, bpf_redirect_peer,
        bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skb_vlan_pop,
    },
};

use super::{
    flow::next_hop,
    hop::{self, Ethernet},
    ingress::Ingress,
    plain::Plain,
    rewrite::{self, To},
    tables::{Addr, Tables},
};
use crate::{
    checksum::Delta,
    family::{Address, Family},
    maps::{Config, Target},
    packet::{Bytes, protocol, transport},
    verdict::Drop,
};

/// `skb->pkt_type` of a frame that is addressed to this host.
const PACKET_HOST: u32 = 0;

/// The VLAN's number in a tag.
const VLAN_ID: u32 = 0x0fff;

/// A packet.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

/// Reads fields of the context.
macro_rules! field {
    ($($(#[$doc:meta])* $name:ident: $field:ident),+ $(,)?) => { $(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(&self) -> u32 {
            // SAFETY: the context is valid for the whole run of the program; the verifier checks the access.
            unsafe { (*self.0).$field }
        }
    )+ };
}

impl Skb {
    field! {
        /// The mark.
        mark: mark,
        /// Index of the device that the program is attached to.
        ifindex: ifindex,
    }

    /// Whether this is a frame of family `F`, addressed to this host, of no VLAN.
    #[inline(always)]
    pub fn is_for<F: Family>(&self) -> bool {
        // SAFETY: as above.
        unsafe {
            (*self.0).protocol == u32::from(F::ETHERTYPE.to_be())
                && (*self.0).pkt_type == PACKET_HOST
                && ((*self.0).vlan_present == 0 || self.pop_priority_tag())
        }
    }

    /// Takes off a tag that carries a priority and no VLAN (IEEE 802.1Q, 9.6), as the kernel's stack does; false if it is of a VLAN.
    #[inline(always)]
    fn pop_priority_tag(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_tci & VLAN_ID == 0 && bpf_skb_vlan_pop(self.0) == 0 }
    }

    /// Makes the first `length` bytes directly readable. Every pointer into the packet is void afterwards.
    #[inline(always)]
    pub fn pull(&self, length: u32) {
        // SAFETY: the context is valid. A refusal shows in `data_end`.
        unsafe { bpf_skb_pull_data(self.0, length) };
    }

    /// Reads a value that is plain bytes.
    #[inline(always)]
    pub fn read_as<V: Copy>(&self, offset: u32) -> Option<V> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: `value` has room for a V, and is filled whole or not used. Zeroing it first would cost a loop.
        unsafe {
            match bpf_skb_load_bytes(self.0.cast(), offset, value.as_mut_ptr().cast(), size_of::<V>() as u32)
            {
                0 => Some(value.assume_init()),
                _ => None,
            }
        }
    }

    /// Whether each segment of a super-packet fits a device.
    #[inline(always)]
    pub fn segments_fit(&self, ifindex: u32) -> bool {
        let mut mtu = 0;
        // SAFETY: the context is valid, and `mtu` is the word that the helper writes.
        unsafe { bpf_check_mtu(self.0.cast(), ifindex, &raw mut mtu, 0, u64::from(BPF_MTU_CHK_SEGS)) == 0 }
    }

    /// Sets the mark.
    #[inline(always)]
    pub fn set_mark(&self, mark: u32) {
        // SAFETY: the context is valid, and the field is writable in tc programs.
        unsafe { (*self.0).mark = mark };
    }

    /// Overwrites bytes, without touching any checksum.
    #[inline(always)]
    pub fn write<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> Result<(), Drop> {
        // SAFETY: the context is valid, and `bytes` holds N bytes.
        match unsafe { bpf_skb_store_bytes(self.0, offset, bytes.as_ptr().cast(), N as u32, 0) } {
            0 => Ok(()),
            _ => Err(Drop::Helper),
        }
    }

    /// Overwrites an address, without touching any checksum.
    #[inline(always)]
    pub fn write_address<A: Address>(&self, offset: u32, address: &A) -> Result<(), Drop> {
        // SAFETY: the context is valid, and an address is as long as its type.
        match unsafe {
            bpf_skb_store_bytes(self.0, offset, core::ptr::from_ref(address).cast(), size_of::<A>() as u32, 0)
        } {
            0 => Ok(()),
            _ => Err(Drop::Helper),
        }
    }

    /// Adds a difference to the transport checksum whose header is at `at`. `pseudo`: the difference is in the pseudo-header, which
    /// matters when the device is to complete the checksum (CHECKSUM_PARTIAL). A UDP checksum of 0 stays.
    #[inline(always)]
    pub fn update_transport_checksum(
        &self,
        ip_protocol: u8,
        at: u32,
        delta: Delta,
        pseudo: bool,
    ) -> Result<(), Drop> {
        let (offset, flags) = match ip_protocol {
            protocol::TCP => (transport::TCP_CHECKSUM, 0),
            protocol::UDP => (transport::UDP_CHECKSUM, BPF_F_MARK_MANGLED_0),
            _ => return Ok(()),
        };
        let flags = if pseudo { flags | BPF_F_PSEUDO_HDR } else { flags };
        // SAFETY: the context is valid.
        match unsafe {
            bpf_l4_csum_replace(self.0, at + offset, 0, u64::from(delta.sum32()), u64::from(flags))
        } {
            0 => Ok(()),
            _ => Err(Drop::Helper),
        }
    }

    /// Tells the kernel by how much the sum of the whole packet has changed, where the device had delivered that sum
    /// (CHECKSUM_COMPLETE).
    #[inline(always)]
    pub fn update_complete_checksum(&self, delta: Delta) {
        // SAFETY: the context is valid. The helper refuses where there is no such sum, which is as good.
        unsafe { bpf_csum_update(self.0, delta.sum32()) };
    }

    /// Sends the packet out of a device, to a neighbour that the kernel resolves.
    #[inline(always)]
    pub fn redirect<F: Family>(&self, ifindex: u32, next_hop: &F::Addr) -> i32 {
        let mut params = bpf_redir_neigh {
            nh_family: F::AF,
            __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: next_hop.words() },
        };
        // SAFETY: `params` is a whole bpf_redir_neigh on the stack.
        unsafe { bpf_redirect_neigh(ifindex, &raw mut params, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
    }

    /// Lets the other end of a veth receive the packet, at once, in its own namespace. The frame's addresses have been written.
    #[inline(always)]
    pub fn hand_over(&self, ifindex: u32) -> i32 {
        // The helper takes the mark along into the other namespace.
        self.set_mark(0);
        // SAFETY: the helper takes plain numbers.
        unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
    }
}

/// How a packet leaves by the cluster link.
#[derive(Clone, Copy)]
pub struct Way<A> {
    /// The link's index.
    ifindex: u32,
    /// The neighbour.
    next_hop: A,
    /// For the link's other end, if the packet may be handed to it.
    ethernet: Option<Ethernet>,
}

impl Ingress for Skb {
    type Way<A: Copy> = Way<A>;

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: the context is valid for the whole run of the program; the verifier checks the access.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).data_end as usize }
    }

    #[inline(always)]
    fn frame_length(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: as above.
        let segments = unsafe { (*self.0).gso_segs };
        if segments == 0 { 1 } else { segments }
    }

    #[inline(always)]
    fn way<T: Tables>(
        &self,
        _packet: &Plain<T::Family>,
        config: &Config,
        target: &Target<Addr<T>>,
        now: u32,
    ) -> Option<Way<Addr<T>>> {
        let ethernet = hop::to(T::handover(), target, now).map(|(_, ethernet)| ethernet);
        Some(Way { ifindex: config.cluster_ifindex, next_hop: next_hop(target), ethernet })
    }

    #[inline(always)]
    fn rewrite<F: Family>(&self, packet: &Plain<F>, to: &To<F::Addr>, way: Way<F::Addr>) -> Result<(), Drop> {
        // First: a helper that mends a checksum makes pointers into the packet void.
        if let Some(ethernet) = way.ethernet {
            packet.set_ethernet(ethernet);
        }
        rewrite::direct(self, packet, to)
    }

    #[inline(always)]
    fn send<T: Tables>(&self, way: Way<Addr<T>>) -> i32 {
        match way.ethernet {
            Some(_) => self.hand_over(way.ifindex),
            None => self.redirect::<T::Family>(way.ifindex, &way.next_hop),
        }
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.read_as(offset)
    }
    #[inline(always)]
    fn length(&self) -> u32 {
        self.frame_length()
    }
    #[inline(always)]
    fn segment_size(&self) -> u32 {
        self.gso_size()
    }
}
