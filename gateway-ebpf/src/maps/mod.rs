//! Keys and values of the BPF maps: what the programs and user space share, and what `bpftool map dump` shows.
//!
//! Conventions: addresses are big-endian bytes as in a packet; ports and all other numbers are in host byte order, so
//! that a dump reads naturally; all zero means unset; padding is explicit and always zero, since keys are compared as
//! bytes. Per-family maps carry the suffix `_v4` or `_v6`; the kernel cuts names at 15 characters.
//!
//! | map               | type          | key              | value            |
//! |-------------------|---------------|------------------|------------------|
//! | `services_v4/6`   | HASH          | [`ServiceKey`]   | [`Service`]      |
//! | `targets_v4/6`    | ARRAY         | target id        | [`Target`]       |
//! | `flows_v4/6`      | HASH          | [`FlowKey`]      | [`Flow`]         |
//! | `replies_v4/6`    | HASH          | [`ReplyKey`]     | [`ReplyV4`]/[`ReplyV6`] |
//! | `fragments_v4/6`  | LRU_HASH      | [`FragmentKey`]  | [`Fragment`]     |
//! | `ranges_v4/6`     | LPM_TRIE      | prefix length in bits (of service id and address), then [`RangeKey`] | u32, always 1 |
//! | `service_stats`   | PERCPU_ARRAY  | service id       | [`ServiceStats`] |
//! | `drops`           | PERCPU_ARRAY  | [`crate::verdict::Drop`] | u64 packets |
//! | `config`          | ARRAY         | 0                | [`Config`]       |
//! | `icmp_budget`     | PERCPU_ARRAY  | 0                | [`IcmpBudget`]   |
//! | `hop_v4/6`        | ARRAY         | 0                | [`Hop`] for XDP  |
//! | `handover_v4/6`   | ARRAY         | 0                | [`Hop`] for tc   |
//! | `xdp_next`        | PROG_ARRAY    | 0                | the XDP program of the other family |
//! | `xdp_device`      | DEVMAP        | 0                | the cluster link |

mod activity;
mod flow;
mod hop;
mod reply;
mod service;
mod settings;
mod sweep;

use bytemuck::{Pod, Zeroable};

pub use self::{
    activity::{Activity, clock_seconds},
    flow::{Flow, FlowHead, FlowKey, Fragment, FragmentKey, flow_check},
    hop::Hop,
    reply::{OWNER_LOCKED, Owner, Reply, ReplyKey, ReplyV4, ReplyV6},
    service::{
        RangeKey, SERVICE_HAS_RANGES, Service, ServiceKey, ServiceStats, TARGET_ACTIVE, TARGET_DRAINING,
        TARGET_REMOVED, TARGET_UNSET, Target,
    },
    settings::{Config, IcmpBudget},
    sweep::{SWEEP_ETHERTYPE, SWEEP_EXPIRED, SWEEP_FLUSH, SWEEP_MAX_KEYS, SWEEP_REPLIES},
};
use crate::address::Address;
pub use crate::conntrack::Timeouts;

/// Part of the pin path. Raised whenever a key, a value or the meaning of a field changes.
pub const SCHEMA_VERSION: u32 = 1;

/// Names of the maps that both families share.
pub const SHARED_MAPS: [&str; 6] =
    ["service_stats", "drops", "config", "icmp_budget", "xdp_next", "xdp_device"];
/// Names, without the `_v4`/`_v6` suffix, of the maps that each family in use has of its own.
pub const FAMILY_MAPS: [&str; 8] =
    ["services", "targets", "flows", "replies", "fragments", "ranges", "hop", "handover"];

/// Slots of `targets_v4/6`. Slot 0 is never used: a zero target id means unset.
pub const MAX_TARGETS: u32 = 16_384;
/// Slots of `service_stats`, one per service port. Slot 0 is never used.
pub const MAX_SERVICES: u32 = 4_096;
/// Slots of `fragments_v4/6`.
pub const MAX_FRAGMENTS: u32 = 8_192;
/// Entries of `ranges_v4/6`.
pub const MAX_RANGES: u32 = 65_536;
/// Flows per family unless the configuration says otherwise.
pub const DEFAULT_MAX_FLOWS: u32 = 262_144;

/// Names the layouts that the kernel relies on, and lets user space read them as bytes.
macro_rules! layout {
    ($($name:ident = $v4:literal, $v6:literal;)+) => { $(
        const _: () = assert!(size_of::<$name<[u8; 4]>>() == $v4 && size_of::<$name<[u8; 16]>>() == $v6);
        // SAFETY: every field is Pod. `Address` is sealed to the two types that the assertion checks, and it leaves no room
        // for padding beyond the named fields.
        unsafe impl<A: Address> Zeroable for $name<A> {}
        // SAFETY: as above.
        unsafe impl<A: Address> Pod for $name<A> {}
        #[cfg(feature = "user")]
        // SAFETY: `bytemuck::Pod` holds, which asks for more than `aya::Pod`.
        unsafe impl<A: Address> aya::Pod for $name<A> {}
    )+ };
}

layout! {
    ServiceKey = 8, 20;
    Target = 40, 112;
    FlowKey = 16, 40;
    ReplyKey = 16, 40;
    FragmentKey = 16, 40;
    Fragment = 12, 24;
    RangeKey = 8, 20;
    Hop = 28, 40;
}

#[cfg(target_endian = "big")]
compile_error!("FlowHead and the owner words are laid out for little-endian machines");

const _: () = assert!(size_of::<Flow>() == 16 && size_of::<ReplyV4>() == 16 && size_of::<ReplyV6>() == 32);

#[cfg(feature = "user")]
macro_rules! user_pod {
    ($($name:ty),+) => { $(
        // SAFETY: `bytemuck::Pod` holds, which asks for more than `aya::Pod`.
        unsafe impl aya::Pod for $name {}
    )+ };
}
#[cfg(feature = "user")]
user_pod!(Service, Flow, ReplyV4, ReplyV6, ServiceStats, Config, IcmpBudget);
