//! What a machine's first process is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file name of that process's program.
pub const INIT: &str = "sluice-cluster-init";
/// What it prints once the machine can be used.
pub const READY: &str = "ready";
/// What its starter writes so that the machine outlives it; otherwise it ends when its standard input does.
pub const STAY: &[u8] = b"stay";

/// A machine, as its first process makes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its host name.
    pub name: String,
    /// The disk of a node, in place of `/var/lib` and `/var/log`; `None`: no pods run here.
    pub disk: Option<PathBuf>,
    /// What this machine removes when it ends, after all others have ended.
    pub removes: Option<Leftovers>,
}

/// What a cluster has made outside of its namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leftovers {
    /// Everything is below this folder.
    pub folder: PathBuf,
    /// The control group, as a path in each hierarchy.
    pub cgroup: String,
}
