//! What is loaded and attached, as the kernel says it now.

use aya::maps::{MapData, MapInfo};

use super::{
    attach::{Device, Devices, Hook},
    clsact,
    error::Error,
    families::{Families, LoaderFamily},
    fdinfo, load,
    pins::Pins,
    slots::{Direction, slots},
    tcx, xdp,
};
use crate::status::Role;
use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::SHARED_MAPS,
};

/// A program that belongs on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the program, as `bpftool` shows it.
    pub program: &'static str,
    /// What the device is for.
    pub role: Role,
    /// The device's name.
    pub device: String,
    /// Which way packets go.
    pub direction: Direction,
    /// How it is attached: the name of a [`Hook`], or `xdp`.
    pub mode: &'static str,
    /// Id of the program of ours that the device runs there; unset: it runs none, or there is no such device.
    pub program_id: Option<u32>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// Name of the map and of its pin; `bpftool` cuts it at 15 characters.
    pub name: String,
    /// Id of the map.
    pub id: u32,
    /// Entries that fit.
    pub max_entries: u32,
    /// Bytes of kernel memory, as the kernel accounts for them (`memlock` in fdinfo). Before Linux 6.4 an estimate of what the
    /// map's entries take when all are in use.
    pub memory: u64,
}

/// The families whose programs and maps are pinned.
pub fn pinned_families(pins: &Pins) -> Families {
    fn pinned<F: LoaderFamily>(pins: &Pins) -> bool {
        pins.path(&format!("sweep{}", F::SUFFIX)).exists()
    }
    Families { v4: pinned::<V4>(pins), v6: pinned::<V6>(pins) }
}

/// Asks each device for our programs. XDP is listed where it runs: packets do without. To be called in the gateway's network
/// namespace; needs CAP_NET_ADMIN.
pub fn attachments(
    pins: &Pins,
    families: Families,
    devices: &Devices,
    hook: Hook,
) -> Result<Vec<Attachment>, Error> {
    let dir = pins.dir();
    let attachment = |slot: &super::slots::Slot| {
        let name = devices.name(slot.role);
        let program_id = match (Device::by_name(name), hook) {
            (None, _) => None,
            (Some(device), Hook::Tcx) => tcx::attached(slot, &device, &dir)?,
            (Some(device), Hook::Clsact) => clsact::attached(slot, &device)?,
        };
        Ok(Attachment {
            program: slot.program,
            role: slot.role,
            device: name.to_owned(),
            direction: slot.direction,
            mode: hook.name(),
            program_id,
        })
    };
    let mut attachments = slots(families).map(attachment).collect::<Result<Vec<_>, Error>>()?;
    if let Some(device) = Device::by_name(&devices.external)
        && let Some(program_id) = xdp::attached(pins, &device)?
    {
        attachments.push(Attachment {
            program: xdp::program(families),
            role: Role::External,
            device: device.name,
            direction: Direction::Ingress,
            mode: xdp::MODE,
            program_id: Some(program_id),
        });
    }
    Ok(attachments)
}

/// The maps of `families` and the shared ones.
pub fn map_use(pins: &Pins, families: Families) -> Result<Vec<MapUse>, Error> {
    let shared = SHARED_MAPS.iter().map(ToString::to_string);
    let use_of = |name: String| {
        let path = pins.path(&name);
        let failed = |source| Error::Map { path: path.clone(), source: Box::new(source) };
        let map = MapData::from_pin(&path).map_err(failed)?;
        let info: MapInfo = map.info().map_err(failed)?;
        let memory =
            fdinfo::read(map.fd(), "memlock").map_err(Error::pin("read", &path))?.unwrap_or_default();
        Ok(MapUse { name, id: info.id(), max_entries: info.max_entries(), memory })
    };
    load::map_names(families).into_iter().chain(shared).map(use_of).collect()
}
