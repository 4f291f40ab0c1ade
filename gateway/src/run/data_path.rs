//! Programs and maps, kept as the configuration and the interfaces ask.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::handover::Handover;
use super::reader::Reader;
use super::xdp::{self, Xdp};
use crate::bpf::pins::Pins;
use crate::bpf::{self, DataPath, Devices, Families, Hook, LoadOptions, Objects};
use crate::config::{Config, Gateway};
use crate::net::{Interfaces, Neighbour};
use crate::status::{self, Attach};
use crate::tables::sweep::{Sweeper, Tick};
use crate::tables::{self, Desired};

/// What dead gateways of this node have left is looked for this often: a look costs some system calls for each gateway there.
const SIBLINGS: Duration = Duration::from_secs(60);

/// The data path of this gateway, loaded or not.
pub struct DataPlane {
    pins: Pins,
    hook: Option<Hook>,
    loaded: Option<DataPath>,
    devices: Option<Devices>,
    sweeper: Sweeper,
    siblings_checked: Option<Instant>,
    xdp: Xdp,
    handover: Handover,
}

/// What [`DataPlane::apply`] found.
#[derive(Debug, Default)]
pub struct Applied {
    /// By which hook packets from clients are taken, while any are.
    pub attach: Option<Attach>,
    /// Whether packets to targets are handed to the other end of the cluster link, while any are.
    pub handover: Option<status::Handover>,
    /// Neighbours whose Ethernet addresses the programs were told.
    pub relied_on: Vec<Neighbour>,
    /// What is to be told and does not stop the service.
    pub problems: Vec<String>,
    /// Where to read from now on, if that has changed.
    pub reader: Option<Reader>,
    /// Some flows may have lost their right to be: the sweep is wanted at once.
    pub sweep: bool,
}

impl DataPlane {
    /// Nothing is loaded. [`Self::apply`] is to be called at least every `resync`.
    pub fn new(pins: Pins, hook: Option<Hook>, resync: Duration) -> Self {
        Self {
            pins,
            hook,
            loaded: None,
            devices: None,
            sweeper: Sweeper::default(),
            siblings_checked: None,
            xdp: Xdp::new(resync),
            handover: Handover::new(resync),
        }
    }

    /// Loads what is not loaded, fills the maps, attaches to the interfaces that exist.
    pub fn apply(&mut self, config: &Config, interfaces: &Interfaces) -> Result<Applied> {
        self.check_siblings();
        let families = families(config);
        if families == Families::default() {
            return self.unload();
        }
        if self.loaded.as_ref().is_some_and(|loaded| loaded.families() != bpf::pinned_families(&self.pins)) {
            warn!("somebody removed pins of this gateway; loading programs and maps anew");
            self.loaded = None;
        }
        let reloaded = self.load(families, config.gateway.max_flows)?;
        let Some(data_path) = &mut self.loaded else { return Ok(Applied::default()) };
        let desired = Desired::new(config, interfaces);
        let plan = tables::reconcile(&mut data_path.maps, &desired, &mut self.sweeper)
            .context("filling the maps")?;
        if !plan.steps.is_empty() {
            info!(changes = plan.steps.len(), "maps are filled");
        }
        let devices = devices(&config.gateway);
        let attached = data_path.attach(&devices).context("attaching the programs")?;
        // Packets are served whatever becomes of this.
        let attach = self.xdp.settle(config, interfaces, data_path);
        let mode = attach.as_ref().ok().map(|attach| attach.mode);
        let handover = self.handover.settle(config, interfaces, mode, data_path);
        let moved = self.devices.replace(devices.clone()) != Some(devices.clone());
        let reader =
            if reloaded || moved { Some(Reader::open(&self.pins, devices, data_path)?) } else { None };
        let mut problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        problems.extend(attached.leftovers);
        problems.extend(match &attach {
            Ok(attach) => xdp::problem(attach),
            Err(error) => Some(format!("choosing between XDP and tc: {error:#}")),
        });
        problems.extend(handover.as_ref().err().map(|error| format!("handing packets over: {error:#}")));
        let wanted = config.gateway.max_flows;
        for (table, entries) in data_path.kept_sizes(wanted).context("asking for the flow tables' sizes")? {
            let fix = "the table keeps its flows and its size until the pod is made anew";
            problems.push(format!("{table} holds {entries} flows, maxFlows is {wanted}: {fix}"));
        }
        let (handover, relied_on) = handover.ok().unzip();
        Ok(Applied {
            attach: attach.ok(),
            handover,
            relied_on: relied_on.unwrap_or_default(),
            problems,
            reader,
            sweep: plan.sweep,
        })
    }

    fn check_siblings(&mut self) {
        if self.siblings_checked.is_some_and(|at| at.elapsed() < SIBLINGS) {
            return;
        }
        self.siblings_checked = Some(Instant::now());
        if let Err(error) = bpf::remove_dead_siblings(&self.pins) {
            warn!(%error, "could not look for what dead gateways of this node have left");
        }
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
                    hook: self.hook,
                };
                self.xdp.forget();
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
            self.sweeper = Sweeper::default();
            info!("no service is configured: programs and maps are removed");
        }
        Ok(Applied { reader: was_loaded.then(Reader::default), ..Applied::default() })
    }

    /// One tick of the sweep; it says when the next is wanted. None: nothing is loaded.
    pub fn sweep(&mut self) -> Option<Result<Tick, tables::Error>> {
        self.loaded.as_ref().map(|data_path| self.sweeper.tick(&data_path.maps))
    }
}

fn families(config: &Config) -> Families {
    let mut vips = config.services.iter().flat_map(|service| &service.vips).map(|vip| vip.address.addr());
    Families { v4: vips.clone().any(|vip| vip.is_ipv4()), v6: vips.any(|vip| vip.is_ipv6()) }
}

fn devices(gateway: &Gateway) -> Devices {
    Devices { external: gateway.external_interface.clone(), cluster: gateway.cluster_interface.clone() }
}
