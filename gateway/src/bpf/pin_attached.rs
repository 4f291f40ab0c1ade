//! Pinning the maps of what is attached: for a gateway whose pins are gone, with the BPF file system that they were on.

use std::fs;

use aya::{maps::MapInfo, programs::loaded_programs};
use sluice_gateway_ebpf::maps::SHARED_MAPS;

use super::{
    attach::{Device, Devices},
    clsact,
    error::Error,
    families::Families,
    load,
    pins::Pins,
    slots::slots,
    sys,
};

/// Pins the maps of this gateway's clsact filters on `devices` where no such map is pinned, so that the next
/// [`super::DataPath::load`] goes on with their contents. Returns how many it pinned; none where nothing is attached.
///
/// Takes CAP_SYS_ADMIN, unlike everything else here: programs and maps are opened by their ids.
///
/// # Errors
///
/// The first failure. What is pinned until then stays, and is as good as any: the loader makes what is missing.
pub fn pin_attached(pins: &Pins, devices: &Devices) -> Result<usize, Error> {
    let families = Families { v4: true, v6: true };
    let known: Vec<String> =
        SHARED_MAPS.iter().map(ToString::to_string).chain(load::map_names(families)).collect();
    let mut pinned = 0;
    for slot in slots(families) {
        let Some(device) = Device::by_name(devices.name(slot.role)) else { continue };
        let Some(program) = clsact::attached(slot, &device)? else { continue };
        for id in maps_of(program, slot.program)? {
            let failed = |error| Error::Map { path: pins.dir(), source: Box::new(error) };
            let map = MapInfo::from_id(id).map_err(failed)?;
            let Some(name) = map.name_as_str().filter(|name| known.iter().any(|known| known == name)) else {
                continue;
            };
            let path = pins.path(name);
            if path.exists() {
                continue;
            }
            fs::create_dir_all(pins.dir()).map_err(Error::pin("make", &pins.dir()))?;
            let map = map.fd().map_err(failed)?;
            sys::pin(&map, &path).map_err(Error::pin("make", &path))?;
            pinned += 1;
        }
    }
    Ok(pinned)
}

/// Ids of the maps that the program with the id `id` uses; none if it is just gone.
fn maps_of(id: u32, name: &str) -> Result<Vec<u32>, Error> {
    // A program that ends between being listed and being opened is not the one.
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    let maps =
        program.map(|program| program.map_ids()).transpose().map_err(Error::program("inspect", name))?;
    Ok(maps.flatten().unwrap_or_default())
}
