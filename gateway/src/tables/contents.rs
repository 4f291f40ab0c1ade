//! What the maps hold, as read from the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sluice_gateway_ebpf::maps::{Config, Service, ServiceKey, Target};

use super::address::{IpBytes, Prefix};

/// The maps that a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The `config` map's slot.
    pub config: Config,
    /// The IPv4 maps, if they are loaded.
    pub v4: Option<FamilyContents<[u8; 4]>>,
    /// The IPv6 maps, if they are loaded.
    pub v6: Option<FamilyContents<[u8; 16]>>,
}

/// One family's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyContents<A: IpBytes> {
    /// `services_*`.
    pub services: HashMap<ServiceKey<A>, Service>,
    /// `targets_*`: slots that are not all zero.
    pub targets: BTreeMap<u16, Target<A>>,
    /// `ranges_*`: service id and prefix.
    pub ranges: BTreeSet<(u32, Prefix<A>)>,
}

impl<A: IpBytes> Default for FamilyContents<A> {
    fn default() -> Self {
        Self { services: HashMap::new(), targets: BTreeMap::new(), ranges: BTreeSet::new() }
    }
}

/// Target slots at rest that a complete pass over the flows has found unused, with the generation they had when the pass
/// began: a slot that was used anew since then has another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacant {
    /// Slots of `targets_v4`.
    pub v4: BTreeMap<u16, u32>,
    /// Slots of `targets_v6`.
    pub v6: BTreeMap<u16, u32>,
}
