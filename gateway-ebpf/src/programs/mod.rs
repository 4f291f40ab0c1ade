//! The tc programs, and the maps they use.

/// Declares the maps of one family, and its programs under the names `forward_$suffix` and so on.
#[macro_export]
macro_rules! programs {
    ($family:ty, v4) => { $crate::programs!(@maps $family, services_v4, targets_v4, flows_v4, replies_v4, fragments_v4, ranges_v4); };
    ($family:ty, v6) => { $crate::programs!(@maps $family, services_v6, targets_v6, flows_v6, replies_v6, fragments_v6, ranges_v6); };
    (@maps $family:ty, $services:ident, $targets:ident, $flows:ident, $replies:ident, $fragments:ident, $ranges:ident) => {
        /// Generic names for the family's maps.
        mod tables {
            use aya_ebpf::{btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray}, macros::btf_map};
            use $crate::{family::Family, maps::*, verdict::Drop};
            type Addr = <$family as Family>::Addr;

            #[btf_map]
            pub static $services: HashMap<ServiceKey<Addr>, Service, { MAX_SERVICES as usize }> = HashMap::new();
            #[btf_map]
            pub static $targets: Array<Target<Addr>, { MAX_TARGETS as usize }> = Array::new();
            #[btf_map]
            pub static $flows: HashMap<FlowKey<Addr>, Flow, { DEFAULT_MAX_FLOWS as usize }> = HashMap::new();
            #[btf_map]
            pub static $replies: HashMap<ReplyKey<Addr>, <$family as Family>::Reply, { DEFAULT_MAX_FLOWS as usize }> = HashMap::new();
            #[btf_map]
            pub static $fragments: LruHashMap<FragmentKey<Addr>, Fragment<Addr>, { MAX_FRAGMENTS as usize }> = LruHashMap::new();
            #[btf_map]
            pub static $ranges: LpmTrie<RangeKey<Addr>, u32, { MAX_RANGES as usize }> = LpmTrie::new();
            #[btf_map]
            pub static service_stats: PerCpuArray<ServiceStats, { MAX_SERVICES as usize }> = PerCpuArray::new();
            #[btf_map]
            pub static drops: PerCpuArray<u64, { Drop::ALL.len() }> = PerCpuArray::new();
            #[btf_map]
            pub static config: Array<Config, 1> = Array::new();
            #[btf_map]
            pub static icmp_budget: PerCpuArray<IcmpBudget, 1> = PerCpuArray::new();
        }
    };
}
