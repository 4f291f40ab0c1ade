//! Reading what the maps hold.

use aya::maps::lpm_trie::Key;
use sluice_gateway_ebpf::maps::{RangeKey, Service, TARGET_UNSET, Target};

use super::{
    address::{IpBytes, Prefix},
    batch::read_all,
    contents::{Contents, FamilyContents},
    error::Error,
};
use crate::bpf::{FamilyMaps, LoaderFamily, Maps};

/// Bits of a range key before the client's prefix: the service id.
pub(super) const RANGE_ID_BITS: u32 = 32;

/// Everything that a plan depends on.
///
/// # Errors
///
/// [`Error::Read`], [`Error::Get`].
pub fn contents(maps: &Maps) -> Result<Contents, Error> {
    let config = maps.shared.config.get(&0, 0).map_err(Error::get("config", 0))?;
    Ok(Contents {
        config,
        v4: maps.v4.as_ref().map(family).transpose()?,
        v6: maps.v6.as_ref().map(family).transpose()?,
    })
}

fn family<F: LoaderFamily<Addr: IpBytes>>(maps: &FamilyMaps<F>) -> Result<FamilyContents<F::Addr>, Error> {
    let suffix = <F::Addr as IpBytes>::SUFFIX;
    let services = read_all(&maps.services).map_err(Error::read("services", suffix))?;
    let ranges = read_all(&maps.ranges).map_err(Error::read("ranges", suffix))?;
    let targets = targets(maps)?.filter(|(_, target)| *target != Target::default());
    Ok(FamilyContents {
        services: services.into_iter().collect(),
        targets: targets.collect(),
        ranges: ranges.into_iter().map(|(key, _)| range(&key)).collect(),
    })
}

/// All slots of `targets`, in order.
pub(super) fn targets<F: LoaderFamily<Addr: IpBytes>>(
    maps: &FamilyMaps<F>,
) -> Result<impl Iterator<Item = (u16, Target<F::Addr>)> + use<F>, Error> {
    let all = read_all(&maps.targets).map_err(Error::read("targets", <F::Addr as IpBytes>::SUFFIX))?;
    Ok(all.into_iter().filter_map(|(slot, target)| Some((u16::try_from(slot).ok()?, target))))
}

/// The slot of `targets` as it is now; unset if there is none such.
pub(super) fn target<F: LoaderFamily<Addr: IpBytes>>(
    maps: &FamilyMaps<F>,
    slot: u16,
) -> Result<Target<F::Addr>, Error> {
    if u32::from(slot) >= maps.targets.len() {
        return Ok(Target { state: TARGET_UNSET, ..Target::default() });
    }
    let name = format!("targets_{}", <F::Addr as IpBytes>::SUFFIX);
    maps.targets.get(&u32::from(slot), 0).map_err(Error::get(name, slot))
}

/// The key of `ranges` that admits `prefix` to the service `id`.
pub(super) fn range_key<A: IpBytes>(id: u32, prefix: &Prefix<A>) -> Key<RangeKey<A>> {
    let data = RangeKey { service: id.to_be_bytes(), client: prefix.address };
    Key::new(RANGE_ID_BITS + u32::from(prefix.length), data)
}

fn range<A: IpBytes>(key: &Key<RangeKey<A>>) -> (u32, Prefix<A>) {
    let data = key.data();
    let length = key.prefix_len().saturating_sub(RANGE_ID_BITS).min(u32::from(A::BITS)) as u8;
    (u32::from_be_bytes(data.service), Prefix { address: data.client, length })
}

/// The targets that an entry of `services` points at.
pub(super) fn targets_of<F: LoaderFamily<Addr: IpBytes>>(
    maps: &FamilyMaps<F>,
    service: &Service,
) -> Result<Vec<Target<F::Addr>>, Error> {
    let slots = (service.first_target..).take(usize::from(service.target_count));
    slots.map(|slot| target(maps, slot)).collect()
}
