//! The daemon: ties configuration, network, programs and maps together.
//!
//! ```text
//! file, folder watch --+
//! netlink watch -------+-> one pass: read file -> observe network -> fill maps -> attach -> VIPs, routes -> announce
//! clock, SIGHUP -------+             (each step does nothing when nothing changed)
//! ```
//!
//! One task makes the passes, one after the other, and the sweep's ticks between them. Probes, metrics and `status` are
//! answered by other tasks from what the last pass published, from the maps and from the kernel, so a slow pass delays no
//! answer. A pass that fails leaves everything as it is and is tried again.

mod config_file;
mod data_path;
mod folder;
mod handover;
pub mod offline;
mod reader;
mod readiness;
mod reconcile;
mod shared;
mod teardown;
mod told;
mod view;
mod watch;
mod ways;
mod xdp;

pub use folder::{RuntimeFolder, replace_file};
pub use teardown::cleanup;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::admin::{self, Bind, Listeners, LocalSocket};
use crate::bpf::pins::Pins;
use crate::bpf::{self, Hook, Objects, preconditions};
use crate::config;
use crate::net::Net;

use folder::Lock;
use reconcile::Reconciler;
use shared::Shared;

/// A pass is made at least this often, unless set otherwise.
pub const DEFAULT_RESYNC: Duration = Duration::from_secs(10);
/// After a pass that failed the next one comes this soon, after another failure twice as late, and so on: to load programs costs a
/// second of the CPU, also when the kernel refuses them.
const RETRY: Duration = Duration::from_secs(1);
/// Between two attempts of the sweep while there is nothing to sweep, or it failed.
const SWEEP_RETRY: Duration = Duration::from_secs(1);

/// What a daemon is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The gateway file.
    pub config: PathBuf,
    /// This gateway's folders in the BPF file system.
    pub pins: Pins,
    /// For the socket, the lock and the copy of the last good file.
    pub folder: RuntimeFolder,
    /// Whether to remove everything at the end.
    pub detach_on_exit: bool,
    /// A pass is made at least this often.
    pub resync: Duration,
    /// How programs are attached; the best that the kernel has if unset.
    pub hook: Option<Hook>,
}

/// [`run`] with threads of its own.
///
/// # Errors
/// As [`run`].
pub fn start(options: Options) -> Result<()> {
    // Two workers: one for the passes, one for the probes meanwhile. Few blocking threads: they read the maps.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(run(options))
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// A precondition is not met, another daemon has the lock, or a socket cannot be opened. What fails later is told and tried
/// again.
pub async fn run(options: Options) -> Result<()> {
    preconditions::check(options.pins.bpffs()).context("checking what Sluice needs")?;
    if Objects::EMBEDDED.v4.is_empty() || Objects::EMBEDDED.v6.is_empty() {
        return Err(bpf::Error::NoObjects.into());
    }
    let _lock = Lock::take(&options.folder).await?;
    // Before anything is touched: a signal that comes early must not leave things half done.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;

    info!(
        version = env!("CARGO_PKG_VERSION"),
        gateway = %options.pins.gateway(),
        config = %options.config.display(),
        "sluice-gateway starts"
    );
    let shared = Arc::new(Shared::new(&options));
    let (binds, wanted) = channel::channel(Bind::all(config::Gateway::default().admin_port, None, []));
    let mut servers = serve(&options, &shared, wanted)?;
    let net = Arc::new(Net::open().context("opening the network")?);
    let wake = Arc::new(Notify::new());
    let mut watchers = watch(&options, &net, &wake);

    let mut reconciler = Reconciler::new(&options, net.clone(), shared.clone(), binds);
    let mut next = Instant::now();
    let mut next_sweep = Instant::now();
    let mut retry = RETRY;
    loop {
        // Without `biased`, so that a flood of edits does not starve the sweep, nor either of them the signals.
        tokio::select! {
            _ = terminate.recv() => break info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => break info!("SIGINT: shutting down"),
            _ = hangup.recv() => {
                info!("SIGHUP: reading the configuration again");
                next = Instant::now();
            }
            () = wake.notified() => next = Instant::now(),
            () = tokio::time::sleep_until(next) => {
                let pass = reconciler.pass().await;
                next = Instant::now() + if pass.settled { options.resync } else { retry.min(options.resync) };
                retry = if pass.settled { RETRY } else { (2 * retry).min(options.resync) };
                if pass.sweep {
                    next_sweep = Instant::now();
                }
            }
            () = tokio::time::sleep_until(next_sweep) => {
                next_sweep = Instant::now() + reconciler.sweep().unwrap_or(SWEEP_RETRY);
            }
        }
        shared.beat();
    }

    // In this order: nothing starts new work; the kernel's state is settled; the last answers are given; the lock goes last.
    watchers.shutdown().await;
    let result = if options.detach_on_exit {
        teardown::everything(&net, &options.pins, &options.folder).await.map(|steps| {
            steps.iter().for_each(|step| info!(step, "detaching"));
        })
    } else {
        info!("the programs, the addresses and the routes stay; the next daemon takes them over");
        Ok(())
    };
    drop(reconciler);
    servers.shutdown().await;
    result
}

/// Answers probes, scrapes and the command line.
fn serve(
    options: &Options,
    shared: &Arc<Shared>,
    binds: channel::Receiver<Vec<Bind>>,
) -> Result<JoinSet<()>> {
    let path = options.folder.socket();
    let socket = LocalSocket::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    let routes = admin::local_routes(shared.clone());
    let mut servers = JoinSet::new();
    servers.spawn(Listeners::new(admin::cluster_routes(shared.clone()), binds).run());
    servers.spawn(async move {
        if let Err(error) = socket.serve(routes).await {
            warn!(%error, "the local socket ended");
        }
    });
    Ok(servers)
}

/// Rings `wake` when the file or the network may have changed.
fn watch(options: &Options, net: &Arc<Net>, wake: &Arc<Notify>) -> JoinSet<()> {
    let mut watchers = JoinSet::new();
    let (path, file_wake) = (options.config.clone(), wake.clone());
    watchers.spawn(async move { watch::config_folder(&path, file_wake).await });
    let (net, wake) = (net.clone(), wake.clone());
    watchers.spawn(async move {
        loop {
            net.changed().await;
            wake.notify_one();
        }
    });
    watchers
}
