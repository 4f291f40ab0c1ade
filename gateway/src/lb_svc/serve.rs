//! The container's main process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use sluice_gateway_ebpf::maps::SCHEMA_VERSION;
use tracing::{info, warn};

use super::place::Place;
use super::store;
use crate::bpf::pins::Pins;
use crate::bpf::{self, Devices, Hook, preconditions};
use crate::config;
use crate::run::{self, Options};

/// Where the gateway's commands look for the daemon.
const USUAL: &str = "/run/sluice";

/// Serves what the operations ask for, until it is ended.
///
/// # Errors
/// As [`run::run`]; or the BPF file system cannot be mounted.
pub fn serve(place: &Place) -> Result<()> {
    if preconditions::check_bpffs(&place.bpffs).is_err() {
        fs::create_dir_all(&place.bpffs).with_context(|| format!("making {}", place.bpffs.display()))?;
        mount(Some("bpf"), &place.bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a BPF file system on {}", place.bpffs.display()))?;
    }
    store::refresh(place)?;
    link(place.folder(), Path::new(USUAL));
    let pins = place.pins()?;
    match take_over(place, &pins) {
        Ok(0) => {}
        Ok(maps) => info!(maps, "took over the connections of the container before this one"),
        Err(error) => {
            warn!(
                error = format!("{error:#}"),
                "could not take over the connections of the container before this one"
            );
        }
    }
    let options = Options {
        config: place.gateway_file(),
        pins,
        folder: place.runtime(),
        detach_on_exit: false,
        resync: run::DEFAULT_RESYNC,
        // A link lives no longer than its pin: between two containers nothing would take packets to the VIP, and the pod's
        // own stack would reset the connections. A filter belongs to the device.
        hook: Some(Hook::Clsact),
    };
    run::start(options)
}

/// The pins of the container before this one are gone with its mount; what is attached to the pod's devices is not. Returns how
/// many maps are pinned again.
fn take_over(place: &Place, pins: &Pins) -> Result<usize> {
    let schema = SCHEMA_VERSION.to_string();
    let gateway = config::Gateway::default();
    let devices = Devices { external: gateway.external_interface, cluster: gateway.cluster_interface };
    // Another version may mean other things by the same bytes.
    let same = fs::read_to_string(place.schema()).is_ok_and(|last| last == schema);
    let maps = if same { bpf::pin_attached(pins, &devices)? } else { 0 };
    fs::write(place.schema(), schema).context("writing the version of the maps")?;
    Ok(maps)
}

/// `kubectl exec ... /sluice-gateway status` finds the daemon without being told where it is.
fn link(folder: &Path, usual: &Path) {
    if usual.exists() || folder == usual {
        return;
    }
    let linked = usual.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink(folder, usual));
    if let Err(error) = linked {
        warn!(%error, "commands in the pod need --runtime-dir {}", folder.display());
    }
}
