//! A gateway's programs and maps in the kernel: loaded, attached, changed, taken away.

use std::fs;

use sluice_gateway_ebpf::family::{V4, V6};

use super::{
    error::Error,
    families::{Families, LoaderFamily},
    load,
    maps::{FamilyMaps, Maps, SharedMaps},
    object::Objects,
    pins::Pins,
};

/// What to load, and where to pin it.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The gateway's pin folders.
    pub pins: Pins,
    /// The families in use.
    pub families: Families,
    /// Entries of each family's flow tables, rounded up to a power of two.
    pub max_flows: u32,
    /// The object files, [`Objects::EMBEDDED`] but in tests.
    pub objects: Objects,
}

/// The data path of this gateway.
pub struct DataPath {
    /// The maps of the families in use. The caller fills them before [`Self::attach`].
    pub maps: Maps,
    options: LoadOptions,
}

impl DataPath {
    /// Loads the programs and opens or makes the maps. Nothing is attached, and what an earlier loader attached goes on
    /// working on the same maps.
    pub fn load(options: LoadOptions) -> Result<Self, Error> {
        let dir = options.pins.dir();
        fs::create_dir_all(&dir).map_err(Error::pin("make", &dir))?;
        let maps = load_maps(&options)?;
        Ok(Self { maps, options })
    }

    /// The families in use.
    pub fn families(&self) -> Families {
        self.options.families
    }
}

fn load_maps(options: &LoadOptions) -> Result<Maps, Error> {
    let v4 = load_family::<V4>(options)?;
    let v6 = load_family::<V6>(options)?;
    if v4.is_none() && v6.is_none() {
        return Err(Error::NoFamily);
    }
    Ok(Maps { shared: SharedMaps::open(&options.pins.dir())?, v4, v6 })
}

fn load_family<F: LoaderFamily>(options: &LoadOptions) -> Result<Option<FamilyMaps<F>>, Error> {
    if !F::in_use(options.families) {
        return Ok(None);
    }
    load::load::<F>(&options.pins, &options.objects, options.max_flows)?;
    FamilyMaps::open(&options.pins.dir()).map(Some)
}
