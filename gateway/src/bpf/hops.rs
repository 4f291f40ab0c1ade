//! Telling the programs the neighbour on the cluster link.

use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::Hop,
};

use super::{error::Error, families::LoaderFamily, maps::Maps};

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The XDP programs, in `hop`.
    Xdp,
    /// The tc programs, in `handover`.
    Tc,
}

impl Told {
    const fn map(self) -> &'static str {
        match self {
            Self::Xdp => "hop",
            Self::Tc => "handover",
        }
    }
}

/// Writes what the program of family `F` is told; a family that is not in use is told nothing.
///
/// A change of anything but the time is made out of force, since a packet may be looking, and what it sees of one write is in no order.
pub(super) fn set<F: LoaderFamily>(maps: &mut Maps, told: Told, hop: Hop<F::Addr>) -> Result<(), Error> {
    let Some(maps) = maps.family_mut::<F>() else { return Ok(()) };
    let map = match told {
        Told::Xdp => &mut maps.hop,
        Told::Tc => &mut maps.handover,
    };
    let failed =
        |source| Error::Map { path: format!("{}{}", told.map(), F::SUFFIX).into(), source: Box::new(source) };
    let now = map.get(&0, 0).map_err(failed)?;
    if now == hop {
        return Ok(());
    }
    if now != (Hop { until: now.until, ..hop }) {
        map.set(0, Hop { until: 0, ..now }, 0).map_err(failed)?;
        map.set(0, Hop { until: 0, ..hop }, 0).map_err(failed)?;
    }
    map.set(0, hop, 0).map_err(failed)
}

/// Tells the programs nothing any more: from now on they do without.
pub(super) fn clear(maps: &mut Maps, told: Told) -> Result<(), Error> {
    set::<V4>(maps, told, Hop::default())?;
    set::<V6>(maps, told, Hop::default())
}
