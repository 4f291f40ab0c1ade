//! What the keeper tells others about itself, and how it is found.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sluice_tests::wait;

const RUN: &str = "/run";
/// The namespaces of the topology.
const PLACES: [&str; 7] = ["client", "router", "far", "node", "pod", "backend0", "backend1"];

/// Begins the names of everything that a demo makes, so that several can be up.
#[derive(Clone, Debug)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected letters, digits and `-`".to_owned())
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    fn file(&self) -> PathBuf {
        Path::new(RUN).join(format!("{self}.json"))
    }

    /// Where `ip netns` finds the namespace of `place`.
    pub fn netns(&self, place: &str) -> PathBuf {
        Path::new(RUN).join("netns").join(format!("{self}-{place}"))
    }
}

/// What the keeper tells others.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// The keeper's process id.
    pub keeper: i32,
    /// The mount namespace of the gateway's container.
    pub mounts: PathBuf,
}

impl State {
    /// What the keeper of `name` tells.
    ///
    /// # Errors
    /// If no demo is up.
    pub fn read(name: &Name) -> Result<Self> {
        let text = fs::read_to_string(name.file())
            .context("no demo is up: `cargo xtask demo --keep` leaves one up")?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", name.file().display()))
    }
}

/// The right to be the keeper: a lock that the kernel takes back when the process ends, in any way.
#[derive(Debug)]
pub struct Claim {
    name: Name,
    file: File,
}

impl Claim {
    /// Becomes the keeper of `name`, and removes what one that was killed has left.
    ///
    /// # Errors
    /// If a demo of this name is up.
    pub fn new(name: &Name) -> Result<Self> {
        let path = name.file();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("opening {} (needs root)", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("a demo is up: `cargo xtask demo --down` takes it away"),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        let mut old = String::new();
        file.read_to_string(&mut old).with_context(|| format!("reading {}", path.display()))?;
        remove_names(name)?;
        Ok(Self { name: name.clone(), file })
    }

    /// Tells others.
    pub fn tell(&mut self, state: &State) -> Result<()> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).context("emptying the state file")?;
        serde_json::to_writer(&mut self.file, state).context("writing the state file")?;
        self.file.flush().context("writing the state file")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What stays is found and removed by the next keeper, or by `down`.
        let _ = remove_names(&self.name);
        let _ = fs::remove_file(self.name.file());
    }
}

/// Ends whatever runs in the demo's namespaces, the shells of visitors included, then the keeper, and removes what it may have
/// left.
pub fn take_down(name: &Name) -> Result<ExitCode> {
    end_visitors(name)?;
    if let Ok(state) = State::read(name)
        && is_up(name)?
    {
        kill(Pid::from_raw(state.keeper), Signal::SIGTERM).context("asking the demo's keeper to end")?;
        wait::until("the keeper of the demo has cleaned up", wait::PATIENCE, || {
            Ok((!is_up(name)?).then_some(()))
        })?;
    }
    // Takes away what a keeper left that was killed before it could clean up.
    drop(Claim::new(name)?);
    println!("Nothing of the demo is left.");
    Ok(ExitCode::SUCCESS)
}

/// Kills every process in the demo's namespaces, as the end of a container does.
fn end_visitors(name: &Name) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|netns| (netns.dev(), netns.ino()));
    let own: Vec<_> = PLACES.iter().filter_map(|place| identity(&name.netns(place))).collect();
    for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else { continue };
        if identity(&entry.path().join("ns/net")).is_some_and(|netns| own.contains(&netns)) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

fn is_up(name: &Name) -> Result<bool> {
    let Ok(file) = File::open(name.file()) else { return Ok(false) };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).context("looking for the demo's keeper"),
    }
}

fn remove_names(name: &Name) -> Result<()> {
    for path in PLACES.map(|place| name.netns(place)) {
        if path.exists() {
            // Not mounted, if the keeper was killed between two steps.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word() {
        assert!("sluice-demo-12".parse::<Name>().is_ok());
        for bad in ["", "-x", "../x", "a b"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
