//! One pass: from the file to the kernel.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tracing::{error, info, warn};

use super::config_file::{Change, ConfigFile};
use super::data_path::DataPlane;
use super::folder::replace_file;
use super::offline;
use super::shared::Shared;
use super::told::Told;
use super::{Options, view};
use crate::admin::{Bind, Source};
use crate::config::{self, Config, Gateway, file::File};
use crate::net::{Interfaces, Net, Outcome};
use crate::status::{Attach, Handover, Origin};

/// Makes the passes. Owns everything that writes.
pub struct Reconciler {
    options: Options,
    file: ConfigFile,
    net: Arc<Net>,
    plane: DataPlane,
    shared: Arc<Shared>,
    binds: watch::Sender<Vec<Bind>>,
    told: Told,
    sweep_wanted: bool,
    /// The network was brought in line at least once.
    placed: bool,
}

/// What a pass leaves to be done.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Nothing failed; else try again soon. To wait for an interface is no failure.
    pub settled: bool,
    /// The sweep is wanted at once.
    pub sweep: bool,
}

/// What a pass found, as far as it came.
#[derive(Default)]
struct Findings {
    /// Unknown, if the network could not be read: then what was known of it still holds, as far as anybody knows.
    interfaces: Option<Interfaces>,
    /// Everything in the configuration is in the maps and on the devices.
    filled: bool,
    /// Some step on the way failed.
    failed: bool,
    /// By which hook packets from clients are taken; unknown, if the pass did not come so far.
    attach: Option<Option<Attach>>,
    /// Whether packets to targets are handed over; unknown as `attach` is.
    handover: Option<Option<Handover>>,
    /// What does not stop the service.
    problems: Vec<String>,
}

impl Reconciler {
    /// Nothing is done yet.
    pub fn new(
        options: &Options,
        net: Arc<Net>,
        shared: Arc<Shared>,
        binds: watch::Sender<Vec<Bind>>,
    ) -> Self {
        Self {
            file: ConfigFile::new(&options.config),
            plane: DataPlane::new(options.pins.clone(), options.hook, options.resync),
            options: options.clone(),
            net,
            shared,
            binds,
            told: Told::default(),
            sweep_wanted: false,
            placed: false,
        }
    }

    /// Brings everything in line with the file.
    pub async fn pass(&mut self) -> Pass {
        let start = Instant::now();
        block_in_place(|| self.read_file());
        let settled = match self.file.in_force().cloned() {
            Some(config) => self.apply(&config).await,
            None => self.wait_for_a_file().await,
        };
        let metrics = self.shared.metrics();
        metrics.reconcile_seconds.observe(start.elapsed().as_secs_f64());
        if !settled {
            metrics.reconcile_failures.inc();
        }
        Pass { settled, sweep: std::mem::take(&mut self.sweep_wanted) }
    }

    fn read_file(&mut self) {
        let reading = config::read(&self.options.config).map_err(|error| error.to_string());
        match self.file.read(reading, SystemTime::now()) {
            Change::None => {}
            Change::New => {
                info!(generation = self.file.generation(), "new configuration");
                self.keep_copy();
            }
            Change::Recovered => {
                info!("the configuration file is good again");
                self.keep_copy();
            }
            Change::Refused => {
                if self.file.in_force().is_none() {
                    self.fall_back();
                }
                let error = self.file.refusal().map(|refusal| refusal.error.as_str()).unwrap_or_default();
                let in_force = match self.file.status().origin {
                    Origin::None => "nothing",
                    Origin::File => "the last good file",
                    Origin::LastGoodCopy => "the copy of the last good file",
                };
                error!(error, in_force, "the configuration file is refused");
            }
        }
    }

    /// The copy is for a restart while the file is bad. Losing it costs only that, so it never stops a pass.
    fn keep_copy(&self) {
        let Some(config) = self.file.in_force() else { return };
        let kept = File::from(config.as_ref())
            .to_yaml()
            .context("writing the configuration as text")
            .and_then(|text| Ok(replace_file(&self.options.folder.last_good(), &text)?));
        if let Err(error) = kept {
            warn!(error = format!("{error:#}"), "cannot keep a copy of the last good file");
        }
    }

    fn fall_back(&mut self) {
        match config::read(&self.options.folder.last_good()) {
            Ok(copy) => self.file.fall_back(copy),
            Err(config::Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => warn!(%error, "the copy of the last good file is not good either"),
        }
    }

    /// False if something failed.
    async fn apply(&mut self, config: &Arc<Config>) -> bool {
        let mut findings = Findings::default();
        let failure = self.steps(config, &mut findings).await.err();
        let Findings { interfaces, filled, failed, attach, handover, mut problems } = findings;
        let settled = failure.is_none() && !failed;
        if filled && self.file.applied(SystemTime::now()) {
            let (generation, services) = (self.file.generation(), config.services.len());
            info!(generation, services, "configuration in force");
        }
        problems.extend(failure.map(|error| format!("{error:#}")));
        self.told.tell(&problems);
        self.shared.update(|snapshot| {
            snapshot.config = self.file.status();
            snapshot.in_force = Some(config.clone());
            snapshot.unconfigured = None;
            if let Some(interfaces) = &interfaces {
                snapshot.interfaces = view::interfaces(&config.gateway, interfaces);
                snapshot.vips = view::vips(config, interfaces);
            }
            if let Some(attach) = attach {
                snapshot.attach = attach;
            }
            if let Some(handover) = handover {
                snapshot.handover = handover;
            }
            // A failed edit leaves what was served before it.
            snapshot.filled |= filled;
            snapshot.problems = problems;
        });
        settled
    }

    /// Maps and programs come first and addresses last: packets to a VIP that no program takes are answered by the pod's own
    /// stack, with a reset.
    async fn steps(&mut self, config: &Config, findings: &mut Findings) -> Result<()> {
        let observed = self.net.observe().await?;
        let interfaces = findings.interfaces.insert(Interfaces::new(&config.gateway, &observed));
        self.listen(&config.gateway, interfaces);
        self.told.interfaces(&view::interfaces(&config.gateway, interfaces));
        if let Some(cluster) = &interfaces.cluster {
            // Without it packets are only slower: nothing is handed over.
            match self.net.neighbours(cluster.index).await {
                Ok(neighbours) => interfaces.cluster_neighbours = neighbours,
                Err(error) => findings.problems.push(format!("handing packets over: {error}")),
            }
        }
        let complete = interfaces.external.is_some() && interfaces.cluster.is_some();

        let applied = block_in_place(|| self.plane.apply(config, interfaces))?;
        if let Some(reader) = applied.reader {
            self.shared.read_from(reader);
        }
        findings.attach = Some(applied.attach);
        findings.handover = Some(applied.handover);
        self.net.rely_on(applied.relied_on);
        findings.problems.extend(applied.problems);
        self.sweep_wanted |= applied.sweep;
        // A VIP is claimed only once there is a way to its targets, and then kept: interfaces come back.
        if !complete && !self.placed {
            return Ok(());
        }
        self.placed = true;
        let Outcome { interfaces, done, failed, blocked } = self.net.reconcile(config).await?;
        for step in &done {
            info!(%step, "network");
        }
        findings.interfaces = Some(interfaces);
        findings.problems.extend(blocked.iter().map(ToString::to_string));
        findings.problems.extend(failed.iter().map(ToString::to_string));
        findings.filled = complete;
        findings.failed = !failed.is_empty();
        Ok(())
    }

    fn listen(&self, gateway: &Gateway, interfaces: &Interfaces) {
        let cluster = interfaces.cluster.as_ref();
        let ifindex = cluster.and_then(|cluster| NonZeroU32::new(cluster.index));
        let addresses =
            cluster.into_iter().flat_map(|cluster| cluster.addresses.iter().map(ipnet::IpNet::addr));
        let wanted = Bind::all(gateway.admin_port, ifindex, addresses);
        self.binds.send_if_modified(|binds| {
            let changed = *binds != wanted;
            *binds = wanted;
            changed
        });
    }

    /// Without any configuration, and without a copy of one: what an earlier daemon left goes on and is not touched. Probes are
    /// answered where they would be by default, or the kubelet would restart a container that has nothing to gain from it. False
    /// if something failed.
    async fn wait_for_a_file(&mut self) -> bool {
        let gateway = Gateway::default();
        let interfaces = match self.net.observe().await {
            Ok(observed) => Interfaces::new(&gateway, &observed),
            Err(error) => {
                self.told.tell(&[error.to_string()]);
                return false;
            }
        };
        self.listen(&gateway, &interfaces);
        let refusal = self.file.refusal().map(|refusal| refusal.error.clone()).unwrap_or_default();
        let unconfigured = match block_in_place(|| offline::reader(&self.options.pins)) {
            Ok(reader) => {
                self.shared.read_from(reader);
                None
            }
            Err(_nothing_pinned) => Some(format!("there is no good configuration yet: {refusal}")),
        };
        let mut problems = Vec::new();
        if unconfigured.is_none() {
            problems
                .push("what an earlier daemon left goes on, unchanged, until the file is good".to_owned());
        }
        self.told.tell(&problems);
        self.shared.update(|snapshot| {
            snapshot.config = self.file.status();
            snapshot.interfaces = view::interfaces(&gateway, &interfaces);
            snapshot.filled = unconfigured.is_none();
            snapshot.unconfigured = unconfigured;
            snapshot.problems = problems;
        });
        true
    }

    /// One slice of the sweep. Says how long to wait before the next; None: there is nothing to sweep.
    pub fn sweep(&mut self) -> Option<Duration> {
        let tick = match block_in_place(|| self.plane.sweep())? {
            Ok(tick) => tick,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                self.told.sweep(Some(&error));
                self.shared.update(|snapshot| snapshot.sweep.error = Some(error));
                return None;
            }
        };
        self.told.sweep(None);
        if let Some(report) = &tick.completed {
            self.shared.metrics().sweep_seconds.observe(report.busy.as_secs_f64());
            self.shared.update(|snapshot| {
                let sweep = &mut snapshot.sweep;
                sweep.passes += 1;
                sweep.deleted += report.v4.deleted + report.v6.deleted;
                sweep.last_seconds = report.duration.as_secs_f64();
                sweep.last_busy_seconds = report.busy.as_secs_f64();
                sweep.last_at = Some(SystemTime::now());
                sweep.error = None;
                snapshot.swept = Some(report.clone());
            });
        }
        Some(tick.wait)
    }
}
