//! What can be told of a gateway whose daemon does not run: what its pins and its devices say.

use std::ffi::CStr;

use anyhow::{Context, Result};
use nix::net::if_::if_indextoname;

use super::reader::{Reader, Reading};
use crate::bpf::pins::Pins;
use crate::bpf::{Devices, Hook, Maps, pinned_families};
use crate::config::Config;
use crate::status::Status;

/// The status by the pinned maps alone; `config` names the service ports, where it is known. Ready means that every program
/// is attached and some service port is served: no more is known without a daemon.
///
/// # Errors
/// Nothing is pinned, or it cannot be read.
pub fn status(pins: &Pins, config: Option<&Config>) -> Result<Status> {
    let reader = reader(pins)?;
    let Reading { programs, services, flow_tables, drops, map_memory, problems } = reader.read(config, None);
    let mut not_ready: Vec<String> = programs
        .iter()
        .filter(|program| !program.attached)
        .map(|program| format!("{} is not attached", program.name))
        .collect();
    if services.is_empty() {
        not_ready.push("the maps hold no service".to_owned());
    }
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateway_id: pins.gateway().to_string(),
        process: None,
        ready: not_ready.is_empty(),
        not_ready,
        config: None,
        interfaces: Vec::new(),
        programs,
        attach: None,
        handover: None,
        vips: Vec::new(),
        services,
        flow_tables,
        map_memory_bytes: map_memory,
        drops,
        sweep: None,
        problems,
    })
}

/// Reads what an earlier daemon left.
///
/// # Errors
/// Nothing is pinned, or it cannot be read.
pub fn reader(pins: &Pins) -> Result<Reader> {
    let devices = devices(&Maps::open_pinned(&pins.dir())?)?;
    Reader::pinned(pins, devices, pinned_families(pins), Hook::detect()?)
}

/// The devices that the programs were told of.
fn devices(maps: &Maps) -> Result<Devices> {
    let config = maps.shared.config.get(&0, 0).context("reading the programs' settings")?;
    Ok(Devices { external: name(config.external_ifindex), cluster: name(config.cluster_ifindex) })
}

/// A device that is gone has no name; no device has this one.
fn name(ifindex: u32) -> String {
    let name = if_indextoname(ifindex).ok();
    name.as_deref()
        .and_then(|name| CStr::to_str(name).ok())
        .map_or_else(|| format!("#{ifindex}"), str::to_owned)
}
