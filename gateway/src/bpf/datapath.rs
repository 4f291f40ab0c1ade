//! A gateway's programs and maps in the kernel: loaded, attached, changed, taken away.

use std::fs;

use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::Hop,
};

use super::{
    attach::{self, Attached, Device, Devices, Hook},
    error::Error,
    families::{Families, LoaderFamily},
    hops::{self, Told},
    liveness, load,
    maps::{FamilyMaps, Maps, SharedMaps},
    object::Objects,
    pins::Pins,
    retire, xdp,
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
    /// How to attach; the best that the kernel has if unset.
    pub hook: Option<Hook>,
}

/// The data path of this gateway.
pub struct DataPath {
    /// The maps of the families in use. The caller fills them before [`Self::attach`].
    pub maps: Maps,
    options: LoadOptions,
    hook: Hook,
}

impl DataPath {
    /// Loads the programs and opens or makes the maps. Nothing is attached, and what an earlier loader attached goes on
    /// working on the same maps.
    ///
    /// Works on the calling thread's network namespace, like [`Self::attach`]: both must be called in the gateway's.
    ///
    /// # Errors
    ///
    /// [`Error::NoObjects`] if the build has none, [`Error::Load`] and [`Error::Program`] if the kernel refuses them.
    pub fn load(options: LoadOptions) -> Result<Self, Error> {
        let hook = options.hook.map_or_else(Hook::detect, Ok)?;
        let dir = options.pins.dir();
        fs::create_dir_all(&dir).map_err(Error::pin("make", &dir))?;
        liveness::mark(&dir)?;
        let maps = load_maps(&options)?;
        Ok(Self { maps, options, hook })
    }

    /// Brings the programs of the families in use to `devices`, then takes away what is no longer used. Changes nothing when
    /// all is in order, so it is to be called after each change of the devices or of [`Self::set_families`].
    ///
    /// Programs of an earlier loader, of this or another version, are replaced in place: no packet finds none. Programs of
    /// others stay.
    ///
    /// # Errors
    ///
    /// The first failure to attach; what is attached until then stays. A missing device is no error, see [`Attached`].
    pub fn attach(&self, devices: &Devices) -> Result<Attached, Error> {
        let Self { options: LoadOptions { pins, families, .. }, hook, .. } = self;
        let mut result = attach::attach(pins, *families, devices, *hook)?;
        if let Err(error) = retire::unused(pins, *families, devices, *hook) {
            result.leftovers = error.texts();
        }
        Ok(result)
    }

    /// Lets the driver of the device `name` run the XDP programs before the tc programs, which have to be attached. They decline
    /// every packet until [`Self::set_hop`], and send what they do not decline by the device `cluster`. Changes nothing when all is in
    /// order.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if the kernel refuses.
    pub fn attach_xdp(&mut self, name: &str, cluster: &str) -> Result<(), Error> {
        let device =
            |name: &str| Device::by_name(name).ok_or_else(|| Error::NoDevice { name: name.to_owned() });
        let (device, cluster) = (device(name)?, device(cluster)?);
        let LoadOptions { pins, families, .. } = &self.options;
        xdp::send_by(pins, &mut self.maps, &cluster)?;
        xdp::attach(pins, *families, &mut self.maps, &device)
    }

    /// The kind of the device `name`, if devices of that kind have no native XDP.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`], or [`Error::Device`] if the kernel does not answer.
    pub fn without_xdp(name: &str) -> Result<Option<String>, Error> {
        let device = Device::by_name(name).ok_or_else(|| Error::NoDevice { name: name.to_owned() })?;
        xdp::without_xdp(&device)
    }

    /// Takes the XDP programs away: first from the packets, then from the device.
    pub fn detach_xdp(&mut self) -> Result<(), Error> {
        hops::clear(&mut self.maps, Told::Xdp)?;
        xdp::detach(&self.options.pins)
    }

    /// Tells the XDP program of family `F` where to send packets.
    pub fn set_hop<F: LoaderFamily>(&mut self, hop: Hop<F::Addr>) -> Result<(), Error> {
        hops::set::<F>(&mut self.maps, Told::Xdp, hop)
    }

    /// Tells the tc program of family `F` to which neighbour it may hand packets by the other end of the cluster link.
    pub fn set_handover<F: LoaderFamily>(&mut self, hop: Hop<F::Addr>) -> Result<(), Error> {
        hops::set::<F>(&mut self.maps, Told::Tc, hop)
    }

    /// Tells the tc programs to send all packets by the cluster link.
    pub fn clear_handover(&mut self) -> Result<(), Error> {
        hops::clear(&mut self.maps, Told::Tc)
    }

    /// Changes the families in use. The programs and maps of an added one are loaded, for the caller to fill; those of one that
    /// is dropped are removed by [`Self::attach`], which must follow in either case. `max_flows` is for an added family.
    pub fn set_families(&mut self, families: Families, max_flows: u32) -> Result<(), Error> {
        let added = |now: bool, before: bool| now && !before;
        let before = self.options.families;
        let options = LoadOptions { families, max_flows, ..self.options.clone() };
        if families == Families::default() {
            return Err(Error::NoFamily);
        }
        if added(families.v4, before.v4) {
            self.maps.v4 = load_family(&options)?;
        }
        if added(families.v6, before.v6) {
            self.maps.v6 = load_family(&options)?;
        }
        self.maps.v4.take_if(|_| !families.v4);
        self.maps.v6.take_if(|_| !families.v6);
        self.options = options;
        Ok(())
    }

    /// The flow tables of another size than `max_flows` asks for, as names and entries: pinned tables keep theirs, see
    /// `docs/design/0020-pins-and-upgrades.md`.
    pub fn kept_sizes(&self, max_flows: u32) -> Result<Vec<(String, u32)>, Error> {
        load::kept_sizes(&self.options.pins, self.options.families, max_flows)
    }

    /// The families in use.
    pub fn families(&self) -> Families {
        self.options.families
    }

    /// How programs are attached.
    pub fn hook(&self) -> Hook {
        self.hook
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
