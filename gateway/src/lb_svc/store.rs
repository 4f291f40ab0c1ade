//! The state on disk: changed by one operation at a time, and told to the loader.

use std::fs::{self, File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::operation::Operation;
use super::place::Place;
use super::served::unserved;
use super::state::State;
use crate::{admin, config, run::replace_file};

/// How long an operation may take: the container may be just starting, and to load programs takes a second of a busy CPU.
/// Kube-OVN's controller waits for an answer without a limit of its own, and serves no other Service meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Does `operation`, and returns when the gateway serves what it asks for.
///
/// # Errors
/// It cannot be done, and nothing is changed; or it is not served in time, and why.
pub fn perform(place: &Place, operation: &Operation) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    edit(place, deadline, |state| Ok(state.after(operation)?))?;
    loop {
        let reasons = match admin::get_status(&place.runtime().socket()) {
            Ok(status) => unserved(operation, &read(place)?, &status),
            Err(error) => vec![format!("the gateway does not answer: {error:#}")],
        };
        if reasons.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{}: {}", operation.name(), reasons.join("; "));
        }
        thread::sleep(POLL);
    }
}

/// Writes the gateway file of the state as it is.
///
/// # Errors
/// The folder cannot be read or written.
pub(super) fn refresh(place: &Place) -> Result<()> {
    edit(place, Instant::now() + PATIENCE, Ok)
}

/// Changes the state under its lock. The file follows even where nothing changes: an earlier operation may have been killed
/// between the two.
fn edit(place: &Place, deadline: Instant, change: impl FnOnce(State) -> Result<State>) -> Result<()> {
    let folder = place.folder();
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let _lock = lock(place, deadline)?;
    let before = read(place)?;
    let state = change(before.clone())?;
    let text = state.file().to_yaml().context("writing the gateway file")?;
    // Nothing that the loader would refuse comes into the state, or it would refuse whatever follows.
    config::parse("the gateway file", &text)?;
    if state != before {
        write(&place.state(), &serde_json::to_string(&state)?)?;
    }
    let file = place.gateway_file();
    if fs::read_to_string(&file).is_ok_and(|present| present == text) {
        return Ok(());
    }
    write(&file, &text)
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    replace_file(path, text).with_context(|| format!("writing {}", path.display()))
}

fn read(place: &Place) -> Result<State> {
    let path = place.state();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is not of this version: delete the pod, and Kube-OVN sets up a new one",
                path.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Held until dropped or the process ends, however it ends.
fn lock(place: &Place, deadline: Instant) -> Result<File> {
    let path = place.lock();
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                bail!("another operation holds {} and does not end", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("taking {}", path.display()));
            }
        }
    }
}
