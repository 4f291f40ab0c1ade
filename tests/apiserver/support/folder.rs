//! A temporary folder that goes with this process, however the process ends.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};

/// Waits for the end of its input, which is this process's end or [`Folder`]'s. What still writes into the folder is being killed then,
/// so it may take more than one attempt. Ctrl-C is not for it.
const REMOVE: &str =
    r#"trap '' INT TERM HUP; read -r _; until rm -rf -- "$0"; do sleep 0.1; done 2> /dev/null"#;

/// The folder, and the shell that will remove it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remover: Child,
    /// Held open; other processes that are started do not inherit it.
    input: Option<ChildStdin>,
}

impl Folder {
    /// Makes one.
    ///
    /// # Errors
    /// The system's folder for temporary files is not writable, or there is no shell.
    pub fn new() -> Result<Self> {
        let path = tempfile::Builder::new().prefix("sluice-").tempdir().context("making a folder")?.keep();
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(REMOVE)
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut remover = command.spawn().context("starting a shell")?;
        let input = remover.stdin.take();
        Ok(Self { path, remover, input })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.file(name);
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.remover.wait();
    }
}
