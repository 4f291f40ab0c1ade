//! Typed handles of the maps, opened from their pins.
//!
//! The daemon and the command line open them the same way, so what `status` and `flows` read is what the programs use.

use std::{io, path::Path};

use aya::maps::{Array, DevMap, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, ProgramArray};
use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::{
        Config, Flow, FlowKey, Fragment, FragmentKey, Hop, IcmpBudget, RangeKey, ReplyKey, Service,
        ServiceKey, ServiceStats, Target,
    },
};

use super::{error::Error, families::LoaderFamily, sweep::Sweep};

/// The maps that both families share.
pub struct SharedMaps {
    /// Counters by service id, one value per CPU.
    pub service_stats: PerCpuArray<MapData, ServiceStats>,
    /// Dropped packets by [`sluice_gateway_ebpf::verdict::Drop`], one value per CPU.
    pub drops: PerCpuArray<MapData, u64>,
    /// Settings of the programs, at index 0.
    pub config: Array<MapData, Config>,
    /// Token bucket of ICMP errors, at index 0, one value per CPU. Only the programs write it.
    pub icmp_budget: PerCpuArray<MapData, IcmpBudget>,
    /// The XDP program of the family whose program the device does not name, at index 0.
    pub xdp_next: ProgramArray<MapData>,
    /// The cluster link as a device that XDP redirects to, at index 0.
    pub xdp_device: DevMap<MapData>,
}

/// The maps of one family, and its sweep program.
pub struct FamilyMaps<F: LoaderFamily> {
    /// Service ports that accept new flows.
    pub services: HashMap<MapData, ServiceKey<F::Addr>, Service>,
    /// Targets by id; index 0 is never used.
    pub targets: Array<MapData, Target<F::Addr>>,
    /// Flows as the client sees them. Only the programs insert and delete: user space reads, and runs [`Self::sweep`].
    pub flows: HashMap<MapData, FlowKey<F::Addr>, Flow>,
    /// Flows as the target sees them. Only the programs insert and delete.
    pub replies: HashMap<MapData, ReplyKey<F::Addr>, F::Reply>,
    /// Fragmented packets whose first fragment was seen. Only the programs write it.
    pub fragments: HashMap<MapData, FragmentKey<F::Addr>, Fragment<F::Addr>>,
    /// Source ranges of services that have any.
    pub ranges: LpmTrie<MapData, RangeKey<F::Addr>, u32>,
    /// The neighbour on the cluster link for the XDP program, at index 0.
    pub hop: Array<MapData, Hop<F::Addr>>,
    /// The neighbour that the tc program may reach by the other end of the cluster link, at index 0.
    pub handover: Array<MapData, Hop<F::Addr>>,
    /// The program that judges and deletes flows.
    pub sweep: Sweep,
}

/// All maps of a gateway. A family that is not in use has none.
pub struct Maps {
    /// The maps that both families share.
    pub shared: SharedMaps,
    /// The IPv4 maps.
    pub v4: Option<FamilyMaps<V4>>,
    /// The IPv6 maps.
    pub v6: Option<FamilyMaps<V6>>,
}

impl Maps {
    /// Opens the maps pinned in `dir` (see [`super::pins::Pins::dir`]), of this process's gateway or of another's.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`] if nothing is pinned there; [`Error::Map`] if a map is missing or of another layout.
    pub fn open_pinned(dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            return Err(Error::NotRunning { dir: dir.to_owned() });
        }
        Ok(Self {
            shared: SharedMaps::open(dir)?,
            v4: FamilyMaps::open_if_pinned(dir)?,
            v6: FamilyMaps::open_if_pinned(dir)?,
        })
    }

    /// The maps of family `F`, if it is in use.
    pub fn family<F: LoaderFamily>(&self) -> Option<&FamilyMaps<F>> {
        F::of(self).as_ref()
    }

    /// The maps of family `F`, to be written, if it is in use.
    pub fn family_mut<F: LoaderFamily>(&mut self) -> Option<&mut FamilyMaps<F>> {
        F::of_mut(self).as_mut()
    }
}

impl SharedMaps {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            service_stats: open(dir, "service_stats")?,
            drops: open(dir, "drops")?,
            config: open(dir, "config")?,
            icmp_budget: open(dir, "icmp_budget")?,
            xdp_next: open(dir, "xdp_next")?,
            xdp_device: open(dir, "xdp_device")?,
        })
    }
}

impl<F: LoaderFamily> FamilyMaps<F> {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let name = |stem: &str| format!("{stem}{}", F::SUFFIX);
        Ok(Self {
            services: open(dir, &name("services"))?,
            targets: open(dir, &name("targets"))?,
            flows: open(dir, &name("flows"))?,
            replies: open(dir, &name("replies"))?,
            fragments: open(dir, &name("fragments"))?,
            ranges: open(dir, &name("ranges"))?,
            hop: open(dir, &name("hop"))?,
            handover: open(dir, &name("handover"))?,
            sweep: Sweep::open(&dir.join(name("sweep")))?,
        })
    }

    fn open_if_pinned(dir: &Path) -> Result<Option<Self>, Error> {
        // The sweep program is pinned after all maps, so a family that is just being loaded is not half there.
        let pinned = dir.join(format!("sweep{}", F::SUFFIX)).exists();
        pinned.then(|| Self::open(dir)).transpose()
    }
}

fn open<M: TryFrom<Map, Error = MapError>>(dir: &Path, name: &str) -> Result<M, Error> {
    let path = dir.join(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(M::try_from)
        .map_err(|source| Error::Map { path, source: Box::new(source) })
}

/// Whether `error` says that there is no such pin.
pub(super) fn is_not_found(error: &MapError) -> bool {
    match error {
        MapError::SyscallError(error) => error.io_error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
