//! The shell around the pure parts: caches, one pass per Service, writes.
//!
//! ```text
//! watches -> queue of Services -> one pass each, many at a time -> writes
//! ```

pub mod addresses;
mod caches;
mod changed;
mod children;
mod cleanup;
mod context;
mod essence;
mod events;
mod finalizer;
mod gateways;
mod lb_svc;
mod pace;
mod packed;
mod reconcile;
mod related;
pub mod release;
mod resolve;
mod rollouts;
mod run;
mod status;
mod subnet_status;
mod waiting;
mod watch;
mod watch_problem;
pub mod writer;

use std::time::Duration;

pub use caches::Observer;
pub use finalizer::FINALIZER;
pub use lb_svc::Lookout;
pub use run::Operator;
pub use watch::TIMEOUT as WATCH_TIMEOUT;

use crate::desired::Defaults;
use addresses::KubeOvnMode;
use writer::WriteError;

/// How the controller behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only the Services of this namespace; `None`: of all.
    pub namespace: Option<String>,
    /// For how long no gateway pod may be Ready before the address is withdrawn from the Service's status.
    pub grace_period: Duration,
    /// Which way Kube-OVN gives addresses, where it does.
    pub kube_ovn_addresses: KubeOvnMode,
    /// Passes at a time.
    pub concurrency: u16,
    /// Gateway pods that serve and are replaced at a time.
    pub max_restarts: u16,
    /// Each Service is looked at at least this often.
    pub resync: Duration,
    /// What gateway pods are like where a Service does not say otherwise.
    pub defaults: Defaults,
}

/// Why a pass could not be completed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A read.
    #[error("cannot read from the API server: {0}")]
    Read(#[from] kube::Error),
    /// A fault of this program.
    #[error("the pass panicked: {0}")]
    Panic(String),
}
