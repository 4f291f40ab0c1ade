//! What the passes publish and the admin server tells.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Options;
use super::reader::{Reader, Reading};
use super::readiness::{Facts, not_ready};
use crate::admin::{Metrics, Source};
use crate::config::Config;
use crate::status::{Attach, ConfigFile, Handover, Interface, Process, Program, Status, Sweep, Vip};
use crate::tables::sweep::Report;

/// The daemon counts as hung when its loop has not come round for this long. Longer than any pass: netlink dumps of large
/// tables and a full table's maps take seconds on a busy node. A restart costs no packet.
const HUNG: Duration = Duration::from_secs(60);

/// The result of the last pass.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The file.
    pub config: ConfigFile,
    /// The configuration in force.
    pub in_force: Option<Arc<Config>>,
    /// Why there is no configuration in force, if there is none.
    pub unconfigured: Option<String>,
    /// Both interfaces.
    pub interfaces: Vec<Interface>,
    /// By which hook packets from clients are taken.
    pub attach: Option<Attach>,
    /// Whether packets to targets are handed over.
    pub handover: Option<Handover>,
    /// VIPs of the configuration in force.
    pub vips: Vec<Vip>,
    /// Whether the maps hold the configuration in force.
    pub filled: bool,
    /// What is to be told in `status`.
    pub problems: Vec<String>,
    /// What the sweep has done.
    pub sweep: Sweep,
    /// What its last pass found.
    pub swept: Option<Report>,
}

/// The daemon's side of the admin server.
#[derive(Debug)]
pub struct Shared {
    gateway_id: String,
    started_at: SystemTime,
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    beat: AtomicU64,
    snapshot: Mutex<Arc<Snapshot>>,
    reader: Mutex<Reader>,
    metrics: Metrics,
}

impl Shared {
    /// Nothing has been done yet.
    pub fn new(options: &Options) -> Self {
        let config = super::config_file::ConfigFile::new(&options.config).status();
        let snapshot = Snapshot {
            config,
            in_force: None,
            unconfigured: Some("the configuration has not been read yet".to_owned()),
            interfaces: Vec::new(),
            attach: None,
            handover: None,
            vips: Vec::new(),
            filled: false,
            problems: Vec::new(),
            sweep: Sweep::default(),
            swept: None,
        };
        Self {
            gateway_id: options.pins.gateway().to_string(),
            started_at: SystemTime::now(),
            started: Instant::now(),
            beat: AtomicU64::new(0),
            snapshot: Mutex::new(Arc::new(snapshot)),
            reader: Mutex::new(Reader::default()),
            metrics: Metrics::default(),
        }
    }

    /// The loop came round.
    pub fn beat(&self) {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(passed, Ordering::Relaxed);
    }

    /// Changes the snapshot.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(Arc::make_mut(&mut lock(&self.snapshot)));
    }

    /// Replaces what counters and attachments are read from.
    pub fn read_from(&self, reader: Reader) {
        *lock(&self.reader) = reader;
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        lock(&self.snapshot).clone()
    }

    fn reasons(&self, snapshot: &Snapshot, programs: &[Program]) -> Vec<String> {
        not_ready(&Facts {
            unconfigured: snapshot.unconfigured.as_deref(),
            filled: snapshot.filled,
            interfaces: &snapshot.interfaces,
            programs,
            vips: &snapshot.vips,
        })
    }
}

impl Source for Shared {
    fn live(&self) -> Result<(), String> {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        alive(self.started.elapsed().saturating_sub(beat))
    }

    fn not_ready(&self) -> Vec<String> {
        match lock(&self.reader).programs() {
            Ok(programs) => self.reasons(&self.snapshot(), &programs),
            Err(error) => vec![format!("{:#}", anyhow::Error::from(error))],
        }
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let Reading { programs, services, flow_tables, drops, map_memory, problems } =
            lock(&self.reader).read(snapshot.in_force.as_deref(), snapshot.swept.as_ref());
        let not_ready = self.reasons(&snapshot, &programs);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway_id: self.gateway_id.clone(),
            process: Some(Process { pid: std::process::id(), started_at: self.started_at }),
            ready: not_ready.is_empty(),
            not_ready,
            config: Some(snapshot.config.clone()),
            interfaces: snapshot.interfaces.clone(),
            programs,
            attach: snapshot.attach.clone(),
            handover: snapshot.handover.clone(),
            vips: snapshot.vips.clone(),
            services,
            flow_tables,
            map_memory_bytes: map_memory,
            drops,
            sweep: Some(snapshot.sweep.clone()),
            problems: snapshot.problems.iter().cloned().chain(problems).collect(),
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Whether a loop that has not come round for `silent` is at work.
fn alive(silent: Duration) -> Result<(), String> {
    if silent < HUNG {
        return Ok(());
    }
    Err(format!("the daemon's loop has not come round for {} s", silent.as_secs()))
}

/// A poisoned lock holds a whole value all the same: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_not_alive() {
        assert_eq!(alive(Duration::from_secs(59)), Ok(()));
        assert!(alive(Duration::from_secs(75)).unwrap_err().contains("75 s"));
    }
}
