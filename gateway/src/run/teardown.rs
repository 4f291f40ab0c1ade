//! Removing all that Sluice made.

use std::io;
use std::path::Path;

use anyhow::{Result, anyhow};

use super::lock::Lock;
use crate::bpf;
use crate::bpf::pins::Pins;
use crate::net::Net;

/// Removes everything of a gateway without a daemon; the lines say what.
///
/// # Errors
/// A daemon runs, or something could not be removed; the rest is removed all the same.
pub async fn cleanup(pins: &Pins, lock: &Path, last_good: &Path) -> Result<Vec<String>> {
    let _lock = Lock::take(lock)?;
    let net = Net::open()?;
    everything(&net, pins, last_good).await
}

/// Removes addresses, rules and routes, then programs and maps, then the copy of the last good file.
///
/// Addresses go before programs: packets to a VIP that no program takes are answered by the pod's own stack, with a reset.
/// A failure does not keep the rest from being removed; all are told.
pub async fn everything(net: &Net, pins: &Pins, last_good: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    match net.remove().await {
        Ok(outcome) => {
            lines.extend(outcome.done.iter().map(ToString::to_string));
            errors.extend(outcome.failed.iter().map(ToString::to_string));
        }
        Err(error) => errors.push(error.to_string()),
    }
    let pinned = pins.dir().is_dir();
    match bpf::cleanup(pins) {
        Ok(()) if pinned => lines.push(format!("remove the programs and maps in {}", pins.dir().display())),
        Ok(()) => {}
        Err(error) => errors.push(format!("{:#}", anyhow::Error::from(error))),
    }
    match std::fs::remove_file(last_good) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(format!("removing {}: {error}", last_good.display()));
        }
        _ => {}
    }
    if errors.is_empty() {
        Ok(lines)
    } else {
        Err(anyhow!("not everything could be removed: {}", errors.join("; ")))
    }
}
