//! Where the gateway keeps its things in a pod of Kube-OVN's, which has no volume.

use std::env;
use std::path::{Path, PathBuf};

use crate::bpf::pins::{BPFFS, GatewayId, Pins};
use crate::run::RuntimeFolder;

/// The pod's shared memory: it belongs to the sandbox, so it outlives the container, and ends with the network that it tells of.
const FOLDER: &str = "/dev/shm/sluice";
/// No other gateway sees the BPF file system that the container mounts for itself.
const ID: &str = "default";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the BPF file system is, or will be mounted.
    pub bpffs: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// The usual places, or where the variables say that the gateway's other commands know.
    pub fn from_environment() -> Self {
        let path =
            |name: &str, default: &str| env::var_os(name).map_or_else(|| default.into(), PathBuf::from);
        Self { bpffs: path("SLUICE_BPFFS", BPFFS), folder: path("SLUICE_RUNTIME_DIR", FOLDER) }
    }

    /// The folder of everything that must outlive the container.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same, as the daemon's.
    pub fn runtime(&self) -> RuntimeFolder {
        RuntimeFolder::new(&self.folder)
    }

    /// The gateway file, made of the state.
    pub fn gateway_file(&self) -> PathBuf {
        self.folder.join("gateway.yaml")
    }

    /// What was asked for.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("lb-svc.json")
    }

    /// Held by who changes the state.
    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join("lb-svc.lock")
    }

    /// Which layout of the maps the last container used.
    pub(super) fn schema(&self) -> PathBuf {
        self.folder.join("schema")
    }

    /// Where programs and maps are pinned.
    pub fn pins(&self) -> Result<Pins, crate::bpf::pins::InvalidGatewayId> {
        Ok(Pins::new(&self.bpffs, ID.parse::<GatewayId>()?))
    }
}
