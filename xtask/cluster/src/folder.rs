//! The folder of a cluster, by which it is found and removed, also by who did not start it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{leftovers, process::Process, spec::Leftovers};

/// The process that starts a cluster, and the name of its control group.
const STARTER: &str = "starter.pid";
const CGROUP: &str = "cgroup";

/// Ends what runs in `folder`, and removes it with all that a cluster has made elsewhere, also what is left of one whose processes were killed.
///
/// # Errors
/// Something stays.
pub fn remove(folder: &Path) -> Result<()> {
    stop(&find(folder)?)
}

/// Removes the clusters below `parent` of which nothing runs any more, nor who started them.
///
/// # Errors
/// Something stays.
pub fn sweep(parent: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
    for entry in entries.flatten() {
        let folder = entry.path();
        let is_dead = Process::load(&folder.join(STARTER)).is_none() && machines(&folder).is_empty();
        if is_dead && folder.join(CGROUP).exists() {
            remove(&folder)?;
        }
    }
    Ok(())
}

/// What the cluster in the folder has made, whether it runs or not.
///
/// # Errors
/// There is none.
pub(crate) fn find(folder: &Path) -> Result<Leftovers> {
    let cgroup = fs::read_to_string(folder.join(CGROUP))
        .with_context(|| format!("there is no cluster in {}", folder.display()))?;
    Ok(Leftovers { folder: folder.to_owned(), cgroup })
}

/// Makes the folder, with what it takes to remove everything in it.
///
/// # Errors
/// It is there already, or cannot be made.
pub(crate) fn claim(folder: &Path) -> Result<Leftovers> {
    let what = || format!("making {}", folder.display());
    let parent = folder.parent().context("a folder without a parent")?;
    fs::create_dir_all(parent).with_context(what)?;
    let folder = parent.canonicalize().with_context(what)?.join(folder.file_name().unwrap_or_default());
    fs::create_dir(&folder).with_context(what)?;
    let starter = Process::of(std::process::id())?;
    starter.save(&folder.join(STARTER))?;
    // Another cluster in another folder may have the folder's name.
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let cgroup = format!("/sluice-{name}-{}", starter.pid());
    fs::write(folder.join(CGROUP), &cgroup).with_context(what)?;
    Ok(Leftovers { folder, cgroup })
}

/// The machines in the folder that run.
fn machines(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Process::load(&entry.path().join("init.pid"))).collect()
}

/// Ends what runs, and removes everything.
///
/// # Errors
/// Something stays.
pub(crate) fn stop(leftovers: &Leftovers) -> Result<()> {
    let machines = machines(&leftovers.folder);
    machines.iter().for_each(|machine| machine.signal(Signal::SIGTERM));
    machines.iter().try_for_each(|machine| machine.end(Signal::SIGTERM))?;
    leftovers::remove(leftovers)
}
