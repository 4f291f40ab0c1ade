//! Removing what a cluster has made outside of its namespaces: a folder, and control groups.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{cgroup, spec::Leftovers};

/// How long the processes of the other machines may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes everything. What is in use is tried again: machines end at the same time, but not at once.
///
/// # Errors
/// Something is still there at the end.
pub fn remove(leftovers: &Leftovers) -> Result<()> {
    let start = Instant::now();
    loop {
        match attempt(leftovers) {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn attempt(leftovers: &Leftovers) -> Result<()> {
    for folder in cgroup::folders(&leftovers.cgroup)? {
        cgroup::remove(&folder)?;
    }
    match fs::remove_dir_all(&leftovers.folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", leftovers.folder.display())),
    }?;
    if leftovers.folder.exists() {
        bail!("{} is still there", leftovers.folder.display());
    }
    Ok(())
}
