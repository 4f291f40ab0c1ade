//! Reading the counters: per service port, and dropped packets by reason.

use std::{collections::BTreeMap, io, net::SocketAddr};

use aya::maps::{IterableMap as _, MapError, PerCpuArray};
use sluice_gateway_ebpf::{maps::ServiceStats, verdict::Drop};

use super::{
    address::IpBytes,
    batch::{count, read_all},
    error::Error,
    names::Names,
    read::targets_of,
    sweep::Report,
};
use crate::{
    bpf::{FamilyMaps, LoaderFamily, Maps},
    status::{self, Counters, FlowTable},
};

/// A service port as the maps have it, with its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortCounters {
    /// The service id: what the counters are kept by. All VIPs of a service port share one.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// What clients address, IPv4 first, ascending.
    pub vips: Vec<SocketAddr>,
    /// Where packets go, in the same order.
    pub targets: Vec<SocketAddr>,
    /// Sums over all CPUs, since the service port was made.
    pub counters: Counters,
}

impl PortCounters {
    /// Whose it is.
    pub fn name<'a>(&self, names: &'a Names) -> Option<&'a super::PortName> {
        self.vips.iter().find_map(|vip| names.get(vip.ip(), vip.port(), self.protocol))
    }
}

/// All service ports that accept flows, by id.
///
/// # Errors
///
/// [`Error::Read`], [`Error::Get`].
pub fn ports(maps: &Maps) -> Result<Vec<PortCounters>, Error> {
    let mut ports = BTreeMap::new();
    if let Some(maps) = &maps.v4 {
        family(maps, &mut ports)?;
    }
    if let Some(maps) = &maps.v6 {
        family(maps, &mut ports)?;
    }
    for (id, port) in &mut ports {
        port.counters = of(&maps.shared.service_stats, *id)?;
    }
    Ok(ports.into_values().collect())
}

fn family<F: LoaderFamily<Addr: IpBytes>>(
    maps: &FamilyMaps<F>,
    ports: &mut BTreeMap<u32, PortCounters>,
) -> Result<(), Error> {
    let mut entries =
        read_all(&maps.services).map_err(Error::read("services", <F::Addr as IpBytes>::SUFFIX))?;
    entries.sort_by_key(|(key, _)| (key.vip, key.port, key.protocol));
    for (key, service) in entries {
        let port = ports.entry(service.id).or_insert_with(|| PortCounters {
            id: service.id,
            protocol: key.protocol,
            vips: Vec::new(),
            targets: Vec::new(),
            counters: Counters::default(),
        });
        port.vips.push(SocketAddr::new(key.vip.ip(), key.port));
        for target in targets_of(maps, &service)? {
            let target = SocketAddr::new(target.address.ip(), target.port);
            if !port.targets.contains(&target) {
                port.targets.push(target);
            }
        }
    }
    Ok(())
}

fn of(stats: &PerCpuArray<aya::maps::MapData, ServiceStats>, id: u32) -> Result<Counters, Error> {
    let values = stats.get(&id, 0).map_err(Error::get("service_stats", id))?;
    let sum = |field: fn(&ServiceStats) -> u64| values.iter().map(field).fold(0, u64::wrapping_add);
    let opened = sum(|stats| stats.flows_opened);
    Ok(Counters {
        forward_packets: sum(|stats| stats.forward_packets),
        forward_bytes: sum(|stats| stats.forward_bytes),
        reverse_packets: sum(|stats| stats.reverse_packets),
        reverse_bytes: sum(|stats| stats.reverse_bytes),
        flows_opened: opened,
        // The CPUs are read one after the other: a flow may be seen to end that was not yet seen to begin.
        flows_active: opened.saturating_sub(sum(|stats| stats.flows_closed)),
    })
}

/// How full the flow tables are. With a sweep's report as of its last pass, else counted now, entry by entry.
///
/// # Errors
///
/// [`Error::Read`].
pub fn flow_tables(maps: &Maps, report: Option<&Report>) -> Result<Vec<FlowTable>, Error> {
    let v4 = maps.v4.as_ref().map(|maps| flow_table("ipv4", maps, report.map(|report| report.v4.flows)));
    let v6 = maps.v6.as_ref().map(|maps| flow_table("ipv6", maps, report.map(|report| report.v6.flows)));
    [v4, v6].into_iter().flatten().collect()
}

fn flow_table<F: LoaderFamily<Addr: IpBytes>>(
    family: &str,
    maps: &FamilyMaps<F>,
    known: Option<u64>,
) -> Result<FlowTable, Error> {
    let failed = || Error::read("flows", <F::Addr as IpBytes>::SUFFIX);
    let entries = match known {
        Some(entries) => entries,
        None => count(&maps.flows).map_err(failed())?,
    };
    let info = maps.flows.map().info().map_err(|error| failed()(io::Error::other(error)))?;
    Ok(FlowTable { family: family.to_owned(), entries, capacity: info.max_entries().into() })
}

/// Dropped packets: every reason, in the order of the map. A map of an earlier version may have fewer; those are zero.
///
/// # Errors
///
/// [`Error::Get`].
pub fn drops(maps: &Maps) -> Result<Vec<status::Drop>, Error> {
    let packets = |reason: Drop| match maps.shared.drops.get(&(reason as u32), 0) {
        Ok(values) => Ok(values.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value))),
        Err(MapError::OutOfBounds { .. }) => Ok(0),
        Err(error) => Err(Error::get("drops", reason.name())(error)),
    };
    let reasons = Drop::ALL.into_iter();
    reasons
        .map(|reason| Ok(status::Drop { reason: reason.name().to_owned(), packets: packets(reason)? }))
        .collect()
}
