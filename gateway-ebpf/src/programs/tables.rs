//! The maps of one family, under names that generic code can use.

use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg},
    mem::offset_of,
};

use aya_ebpf::btf_maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};

use crate::{
    family::{Family, V4, V6},
    maps::{
        Config, DEFAULT_MAX_FLOWS, Flow, FlowHead, FlowKey, Fragment, FragmentKey, Hop, IcmpBudget,
        MAX_FRAGMENTS, MAX_RANGES, MAX_SERVICES, MAX_TARGETS, OWNER_LOCKED, Owner, RangeKey, ReplyKey,
        ReplyV4, ReplyV6, Service, ServiceKey, ServiceStats, Target,
    },
    packet::Network,
    verdict::Drop,
};

pub use super::scratch::{SCRATCH_SLOTS, Scratch};

/// Shorthand for the address type of a set of tables.
pub type Addr<T> = <<T as Tables>::Family as Family>::Addr;
/// Shorthand for the reply value of a set of tables.
pub type ReplyValue<T> = <<T as Tables>::Family as Family>::Reply;

/// `services_*`
pub type Services<A> = HashMap<ServiceKey<A>, Service, { MAX_SERVICES as usize }>;
/// `targets_*`
pub type Targets<A> = Array<Target<A>, { MAX_TARGETS as usize }>;
/// `flows_*`
pub type Flows<A> = HashMap<FlowKey<A>, Flow, { DEFAULT_MAX_FLOWS as usize }>;
/// `replies_*`
pub type Replies<A, R> = HashMap<ReplyKey<A>, R, { DEFAULT_MAX_FLOWS as usize }>;
/// `fragments_*`
pub type Fragments<A> = LruHashMap<FragmentKey<A>, Fragment<A>, { MAX_FRAGMENTS as usize }>;
/// `ranges_*`; tries are never preallocated.
pub type Ranges<A> =
    LpmTrie<RangeKey<A>, u32, { MAX_RANGES as usize }, { aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize }>;
/// `scratch_*`: see [`Scratch`].
pub type ScratchMap<A> = PerCpuArray<Scratch<A>, SCRATCH_SLOTS>;
/// `hop_*`, `handover_*`
pub type Hops<A> = Array<Hop<A>, 1>;
/// `xdp_next`
pub type XdpNext = ProgramArray<1>;
/// `xdp_device`
pub type XdpDevice = DevMap<1>;
/// `service_stats`
pub type Stats = PerCpuArray<ServiceStats, { MAX_SERVICES as usize }>;
/// `drops`
pub type Drops = PerCpuArray<u64, { Drop::ALL.len() }>;

/// The maps that the programs of one family use.
#[expect(missing_docs, reason = "the maps are described in crate::maps")]
pub trait Tables: Copy + 'static {
    type Family: Guarded;
    fn services() -> &'static Services<Addr<Self>>;
    fn targets() -> &'static Targets<Addr<Self>>;
    fn flows() -> &'static Flows<Addr<Self>>;
    fn replies() -> &'static Replies<Addr<Self>, ReplyValue<Self>>;
    fn fragments() -> &'static Fragments<Addr<Self>>;
    fn ranges() -> &'static Ranges<Addr<Self>>;
    fn stats() -> &'static Stats;
    fn drops() -> &'static Drops;
    fn config() -> &'static Array<Config, 1>;
    fn icmp_budget() -> &'static PerCpuArray<IcmpBudget, 1>;
    fn scratch() -> &'static ScratchMap<Addr<Self>>;
    fn hop() -> &'static Hops<Addr<Self>>;
    fn handover() -> &'static Hops<Addr<Self>>;
    fn xdp_next() -> &'static XdpNext;
    fn xdp_device() -> &'static XdpDevice;
}

/// Counts a packet that goes no further, by the index of its reason.
#[inline(always)]
pub fn count_drop<T: Tables>(reason: u32) {
    if let Some(counter) = T::drops().get_ptr_mut(reason) {
        // SAFETY: a per-CPU value; programs on one CPU do not interrupt one another.
        unsafe { *counter += 1 };
    }
}

/// The settings, if they are complete enough to send packets.
#[inline(always)]
pub fn config<T: Tables>() -> Option<&'static Config> {
    T::config().get(0).filter(|c| c.external_mtu != 0 && c.cluster_mtu != 0)
}

/// Replaces the 64-bit word at `word` if it still is `old`; true if it was. A full barrier.
///
/// # Safety
/// `word` points at eight aligned bytes of a map value.
#[inline(always)]
pub unsafe fn compare_and_swap(word: *mut u64, old: u64, new: u64) -> bool {
    // The intrinsic, because `core::sync::atomic` has no compare_exchange on the BPF target.
    // SAFETY: as the caller promises.
    unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new).1 }
}

/// Reads the head of a flow in one load.
#[inline(always)]
pub fn head(flow: *const Flow) -> FlowHead {
    // SAFETY: map values are eight-byte aligned and stay readable for the whole run of the program.
    FlowHead(unsafe { flow.cast::<u64>().read_volatile() })
}

/// Replaces the head of a flow if it still is `old`.
#[inline(always)]
pub fn swap_head(flow: *mut Flow, old: FlowHead, new: FlowHead) -> bool {
    // SAFETY: the head is the first eight bytes of a map value.
    unsafe { compare_and_swap(flow.cast(), old.0, new.0) }
}

/// How a family guards the owner of a reservation against being read half-changed.
pub trait Guarded: Network {
    /// The owner, and the word that a later [`Guarded::swap_owner`] compares; `None` while another CPU changes it.
    fn owner(reply: *const Self::Reply) -> Option<(Owner<Self::Addr>, u64)>;
    /// Gives the reservation to `owner` if it still is as `word` says.
    fn swap_owner(reply: *mut Self::Reply, word: u64, owner: &Owner<Self::Addr>) -> bool;
    /// Where the reservation keeps its [`crate::maps::Activity`].
    fn activity(reply: *mut Self::Reply) -> *mut u64;
}

impl Guarded for V4 {
    #[inline(always)]
    fn owner(reply: *const ReplyV4) -> Option<(Owner<[u8; 4]>, u64)> {
        // SAFETY: the owner is the first eight bytes of a map value.
        let word = unsafe { reply.cast::<u64>().read_volatile() };
        let owner = Owner {
            client: (word as u32).to_ne_bytes(),
            client_port: (word >> 32) as u16,
            target: (word >> 48) as u16,
        };
        Some((owner, word))
    }
    #[inline(always)]
    fn swap_owner(reply: *mut ReplyV4, word: u64, owner: &Owner<[u8; 4]>) -> bool {
        let new = u64::from(u32::from_ne_bytes(owner.client))
            | u64::from(owner.client_port) << 32
            | u64::from(owner.target) << 48;
        // SAFETY: as above.
        unsafe { compare_and_swap(reply.cast(), word, new) }
    }
    #[inline(always)]
    fn activity(reply: *mut ReplyV4) -> *mut u64 {
        reply.wrapping_byte_add(offset_of!(ReplyV4, activity)).cast()
    }
}

impl Guarded for V6 {
    #[inline(always)]
    fn owner(reply: *const ReplyV6) -> Option<(Owner<[u8; 16]>, u64)> {
        // SAFETY: ports, target and epoch are the first eight bytes of a map value; the client lies within it.
        let (before, client, after) = unsafe {
            let word = reply.cast::<u64>();
            (
                word.read_volatile(),
                reply.wrapping_byte_add(offset_of!(ReplyV6, client)).cast::<[u32; 4]>().read_volatile(),
                word.read_volatile(),
            )
        };
        if before != after || (before >> 32) & 1 != 0 {
            return None;
        }
        let owner = Owner {
            client: bytemuck::cast(client),
            client_port: before as u16,
            target: (before >> 16) as u16,
        };
        Some((owner, before))
    }
    #[inline(always)]
    fn swap_owner(reply: *mut ReplyV6, word: u64, owner: &Owner<[u8; 16]>) -> bool {
        let epoch = word >> 32;
        let locked = u64::from(OWNER_LOCKED) << 16 | (epoch.wrapping_add(1) & 0xffff_ffff) << 32;
        let new = u64::from(owner.client_port)
            | u64::from(owner.target) << 16
            | (epoch.wrapping_add(2) & 0xffff_ffff) << 32;
        // SAFETY: as above. Between the two swaps the epoch is odd and this CPU alone writes the client.
        unsafe {
            if !compare_and_swap(reply.cast(), word, locked) {
                return false;
            }
            reply
                .wrapping_byte_add(offset_of!(ReplyV6, client))
                .cast::<[u32; 4]>()
                .write_volatile(bytemuck::cast(owner.client));
            compare_and_swap(reply.cast(), locked, new)
        }
    }
    #[inline(always)]
    fn activity(reply: *mut ReplyV6) -> *mut u64 {
        reply.wrapping_byte_add(offset_of!(ReplyV6, activity)).cast()
    }
}

/// Declares the maps of one family and the programs that use them.
#[macro_export]
macro_rules! tables {
    ($name:ident: $family:ty, $services:ident, $targets:ident, $flows:ident, $replies:ident, $fragments:ident, $ranges:ident, $scratch:ident, $hop:ident, $handover:ident) => {
        /// The maps. Their names are a public interface: users see them in bpftool.
        #[expect(non_upper_case_globals, reason = "the kernel knows a map by the name of its static")]
        mod maps {
            use aya_ebpf::{
                btf_maps::{Array, PerCpuArray},
                macros::btf_map,
            };
            use $crate::{
                maps::{Config, IcmpBudget},
                programs::tables::*,
            };
            type A = <$family as $crate::family::Family>::Addr;
            type R = <$family as $crate::family::Family>::Reply;

            #[btf_map]
            pub static $services: Services<A> = Services::new();
            #[btf_map]
            pub static $targets: Targets<A> = Targets::new();
            #[btf_map]
            pub static $flows: Flows<A> = Flows::new();
            #[btf_map]
            pub static $replies: Replies<A, R> = Replies::new();
            #[btf_map]
            pub static $fragments: Fragments<A> = Fragments::new();
            #[btf_map]
            pub static $ranges: Ranges<A> = Ranges::new();
            #[btf_map]
            pub static $scratch: ScratchMap<A> = ScratchMap::new();
            #[btf_map]
            pub static $hop: Hops<A> = Hops::new();
            #[btf_map]
            pub static $handover: Hops<A> = Hops::new();
            #[btf_map]
            pub static xdp_next: XdpNext = XdpNext::new();
            #[btf_map]
            pub static xdp_device: XdpDevice = XdpDevice::new();
            #[btf_map]
            pub static service_stats: Stats = Stats::new();
            #[btf_map]
            pub static drops: Drops = Drops::new();
            #[btf_map]
            pub static config: Array<Config, 1> = Array::new();
            #[btf_map]
            pub static icmp_budget: PerCpuArray<IcmpBudget, 1> = PerCpuArray::new();
        }

        #[derive(Clone, Copy)]
        struct $name;

        impl $crate::programs::tables::Tables for $name {
            type Family = $family;
            #[inline(always)]
            fn services() -> &'static $crate::programs::tables::Services<<$family as $crate::family::Family>::Addr> {
                &maps::$services
            }
            #[inline(always)]
            fn targets() -> &'static $crate::programs::tables::Targets<<$family as $crate::family::Family>::Addr> {
                &maps::$targets
            }
            #[inline(always)]
            fn flows() -> &'static $crate::programs::tables::Flows<<$family as $crate::family::Family>::Addr> {
                &maps::$flows
            }
            #[inline(always)]
            fn replies() -> &'static $crate::programs::tables::Replies<
                <$family as $crate::family::Family>::Addr,
                <$family as $crate::family::Family>::Reply,
            > {
                &maps::$replies
            }
            #[inline(always)]
            fn fragments() -> &'static $crate::programs::tables::Fragments<<$family as $crate::family::Family>::Addr> {
                &maps::$fragments
            }
            #[inline(always)]
            fn ranges() -> &'static $crate::programs::tables::Ranges<<$family as $crate::family::Family>::Addr> {
                &maps::$ranges
            }
            #[inline(always)]
            fn scratch() -> &'static $crate::programs::tables::ScratchMap<<$family as $crate::family::Family>::Addr> {
                &maps::$scratch
            }
            #[inline(always)]
            fn hop() -> &'static $crate::programs::tables::Hops<<$family as $crate::family::Family>::Addr> {
                &maps::$hop
            }
            #[inline(always)]
            fn handover() -> &'static $crate::programs::tables::Hops<<$family as $crate::family::Family>::Addr> {
                &maps::$handover
            }
            #[inline(always)]
            fn xdp_next() -> &'static $crate::programs::tables::XdpNext {
                &maps::xdp_next
            }
            #[inline(always)]
            fn xdp_device() -> &'static $crate::programs::tables::XdpDevice {
                &maps::xdp_device
            }
            #[inline(always)]
            fn stats() -> &'static $crate::programs::tables::Stats {
                &maps::service_stats
            }
            #[inline(always)]
            fn drops() -> &'static $crate::programs::tables::Drops {
                &maps::drops
            }
            #[inline(always)]
            fn config() -> &'static aya_ebpf::btf_maps::Array<$crate::maps::Config, 1> {
                &maps::config
            }
            #[inline(always)]
            fn icmp_budget() -> &'static aya_ebpf::btf_maps::PerCpuArray<$crate::maps::IcmpBudget, 1> {
                &maps::icmp_budget
            }
        }
    };
}

/// What every program object ends with.
#[macro_export]
macro_rules! program_object {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        /// The licence that the kernel checks: some helpers are for GPL-compatible programs only.
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
