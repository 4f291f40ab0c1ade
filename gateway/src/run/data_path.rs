//! Programs and maps, kept as the configuration and the interfaces ask.

use anyhow::{Context, Result};
use tracing::info;

use crate::bpf::pins::Pins;
use crate::bpf::{self, Attachment, DataPath, Devices, Families, Hook, LoadOptions, Maps, Objects};
use crate::config::{Config, Gateway};
use crate::net::Interfaces;
use crate::status::{Drop, FlowTable, Program, ServicePort};

/// The data path of this gateway, loaded or not.
pub struct DataPlane {
    pins: Pins,
    loaded: Option<DataPath>,
}

/// What [`DataPlane::apply`] found.
#[derive(Debug, Default)]
pub struct Applied {
    /// What is to be told and does not stop the service.
    pub problems: Vec<String>,
    /// Where to read from now on, if that has changed.
    pub reader: Option<Reader>,
}

impl DataPlane {
    /// Nothing is loaded.
    pub fn new(pins: Pins) -> Self {
        Self { pins, loaded: None }
    }

    /// Loads what is not loaded, fills the maps, attaches to the interfaces that exist.
    pub fn apply(&mut self, config: &Config, interfaces: &Interfaces) -> Result<Applied> {
        let families = families(config);
        if families == Families::default() {
            return self.unload();
        }
        let reloaded = self.load(families, config.gateway.max_flows)?;
        let Some(data_path) = &mut self.loaded else { return Ok(Applied::default()) };
        let devices = devices(&config.gateway);
        let attached = data_path.attach(&devices).context("attaching the programs")?;
        if attached.attached + attached.updated > 0 {
            info!(attached = attached.attached, updated = attached.updated, "programs are on their devices");
        }
        let _ = interfaces;
        let reader = if reloaded { Some(Reader::open(&self.pins, devices, data_path)?) } else { None };
        Ok(Applied { problems: Vec::new(), reader })
    }

    /// True if programs or maps are others than before.
    fn load(&mut self, families: Families, max_flows: u32) -> Result<bool> {
        match &mut self.loaded {
            Some(data_path) if data_path.families() == families => Ok(false),
            Some(data_path) => {
                data_path.set_families(families, max_flows).context("changing the IP families in use")?;
                Ok(true)
            }
            None => {
                let options = LoadOptions {
                    pins: self.pins.clone(),
                    families,
                    max_flows,
                    objects: Objects::EMBEDDED,
                    hook: None,
                };
                self.loaded = Some(DataPath::load(options).context("loading the programs")?);
                Ok(true)
            }
        }
    }

    /// Without a VIP there is nothing to serve, and no map is kept for it.
    fn unload(&mut self) -> Result<Applied> {
        let was_loaded = self.loaded.take().is_some();
        if was_loaded || self.pins.dir().is_dir() {
            bpf::cleanup(&self.pins).context("removing the programs and maps of services that are gone")?;
            info!("no service is configured: programs and maps are removed");
        }
        Ok(Applied { problems: Vec::new(), reader: was_loaded.then(Reader::default) })
    }

    /// One tick of the sweep: entries deleted. None: nothing is loaded.
    pub fn sweep(&mut self) -> Option<Result<u64>> {
        None
    }
}

fn families(config: &Config) -> Families {
    let mut vips = config.services.iter().flat_map(|service| &service.vips).map(|vip| vip.address.addr());
    Families { v4: vips.clone().any(|vip| vip.is_ipv4()), v6: vips.any(|vip| vip.is_ipv6()) }
}

fn devices(gateway: &Gateway) -> Devices {
    Devices { external: gateway.external_interface.clone(), cluster: gateway.cluster_interface.clone() }
}

/// Reads counters and attachments, with handles of its own: a pass under way delays no answer.
#[derive(Default)]
pub struct Reader(Option<Open>);

struct Open {
    pins: Pins,
    devices: Devices,
    families: Families,
    hook: Hook,
    maps: Maps,
}

/// What a [`Reader`] read.
#[derive(Debug, Default)]
pub struct Reading {
    /// The programs and whether they are attached.
    pub programs: Vec<Program>,
    /// Service ports with their counters.
    pub services: Vec<ServicePort>,
    /// How full the flow tables are.
    pub flow_tables: Vec<FlowTable>,
    /// Drops by reason.
    pub drops: Vec<Drop>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Reader {
    /// Reads the pinned maps of `data_path`.
    fn open(pins: &Pins, devices: Devices, data_path: &DataPath) -> Result<Self> {
        let maps = Maps::open_pinned(&pins.dir()).context("opening the maps to read them")?;
        Ok(Self(Some(Open {
            pins: pins.clone(),
            devices,
            families: data_path.families(),
            hook: data_path.hook(),
            maps,
        })))
    }

    /// The programs that the families in use need, and whether the devices run them. Not to know is not to be attached.
    pub fn programs(&self) -> Result<Vec<Program>, bpf::Error> {
        let Some(open) = &self.0 else { return Ok(Vec::new()) };
        let attachments = bpf::attachments(&open.pins, open.families, &open.devices, open.hook)?;
        Ok(attachments.into_iter().map(program).collect())
    }

    /// Everything.
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        match self.programs() {
            Ok(programs) => reading.programs = programs,
            Err(error) => reading.problems.push(format!("{:#}", anyhow::Error::from(error))),
        }
        reading
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("pins", &self.0.as_ref().map(|open| open.pins.dir()))
            .finish_non_exhaustive()
    }
}

fn program(attachment: Attachment) -> Program {
    Program {
        name: attachment.program.to_owned(),
        interface: attachment.device,
        hook: attachment.direction.name().to_owned(),
        mode: attachment.hook.name().to_owned(),
        attached: attachment.program_id.is_some(),
    }
}
