//! Removing all that Sluice made.

use anyhow::{Result, anyhow};

use super::folder::{Lock, RuntimeFolder};
use crate::bpf;
use crate::bpf::pins::Pins;
use crate::net::Net;

/// Removes everything of a gateway without a daemon; the lines say what.
///
/// # Errors
/// A daemon runs, or something could not be removed; the rest is removed all the same.
pub async fn cleanup(pins: &Pins, folder: &RuntimeFolder) -> Result<Vec<String>> {
    let _lock = Lock::take(folder).await?;
    let net = Net::open()?;
    everything(&net, pins, folder).await
}

/// Removes addresses, rules and routes, then programs and maps, then the runtime folder's files.
///
/// Addresses go before programs: packets to a VIP that no program takes are answered by the pod's own stack, with a reset.
/// A failure does not keep the rest from being removed; all are told.
pub async fn everything(net: &Net, pins: &Pins, folder: &RuntimeFolder) -> Result<Vec<String>> {
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
    if let Err(error) = folder.remove_files() {
        errors.push(format!("removing the files of the runtime folder: {error}"));
    }
    if errors.is_empty() {
        Ok(lines)
    } else {
        Err(anyhow!("not everything could be removed: {}", errors.join("; ")))
    }
}
