//! The runtime folder: one daemon, its socket, and the copy of its last good file.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

/// How long a process that was killed may take to give its lock back.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts.
const POLL: Duration = Duration::from_millis(20);

/// The runtime folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFolder(PathBuf);

impl RuntimeFolder {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The daemon's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("gateway.sock")
    }

    /// The last gateway file that was good.
    pub fn last_good(&self) -> PathBuf {
        self.0.join("last-good.yaml")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("gateway.lock")
    }

    /// Removes the files of a gateway that is removed; the caller holds the lock.
    pub fn remove_files(&self) -> io::Result<()> {
        for path in [self.last_good(), self.lock()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl From<OsString> for RuntimeFolder {
    fn from(path: OsString) -> Self {
        Self::new(path)
    }
}

/// Held until dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the folder and takes its lock: two daemons would undo each other's work. Waits a moment for a predecessor that is
    /// just ending.
    pub async fn take(folder: &RuntimeFolder) -> Result<Self> {
        fs::create_dir_all(&folder.0)
            .with_context(|| format!("making the runtime folder {}", folder.0.display()))?;
        let path = folder.lock();
        let file = File::create(&path).with_context(|| format!("making the lock {}", path.display()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(TryLockError::WouldBlock) => bail!(
                    "another sluice-gateway runs with the lock {}; a second gateway needs its own --runtime-dir and --gateway-id",
                    path.display()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("taking the lock {}", path.display()));
                }
            }
        }
    }
}

/// Replaces `path` by a file with `text`, so that a reader sees the old or the new one whole.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = RuntimeFolder::new(folder.path().join("run"));
        let lock = Lock::take(&folder).await.unwrap();
        let error = Lock::take(&folder).await.unwrap_err().to_string();
        assert!(error.contains("--runtime-dir"), "{error}");
        drop(lock);
        Lock::take(&folder).await.unwrap();
        folder.remove_files().unwrap();
        folder.remove_files().unwrap();
    }
}
