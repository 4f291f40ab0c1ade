//! One daemon per runtime folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held until dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the folder of `path` and takes the lock, without waiting: two daemons would undo each other's work.
    pub fn take(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("making the runtime folder {}", folder.display()))?;
        }
        let file = File::create(path).with_context(|| format!("making the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another sluice-gateway runs with the lock {}; a second gateway needs its own --runtime-dir and --gateway-id",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("taking the lock {}", path.display()))
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

    #[test]
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/gateway.lock");
        let lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains("--runtime-dir"), "{error}");
        drop(lock);
        Lock::take(&path).unwrap();
    }
}
