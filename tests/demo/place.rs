//! The places of the demo, and how to get there.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::state::{Name, State};

/// Where a command can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// A client in the external subnet
    Client,
    /// A client behind the external subnet's router
    Far,
    /// The external subnet's router
    Router,
    /// The Kubernetes node
    Node,
    /// The gateway's container
    Pod,
    /// The first of the Service's pods
    Backend0,
    /// The second of the Service's pods
    Backend1,
}

impl Place {
    /// As the command line and the prompts spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Far => "far",
            Self::Router => "router",
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Backend0 => "backend0",
            Self::Backend1 => "backend1",
        }
    }

    /// `program` in this place, with Sluice's own programs among those that it finds by name.
    ///
    /// # Errors
    /// If no demo is up.
    pub fn command(self, name: &Name, program: &str) -> Result<Command> {
        let netns = name.netns(self.name());
        ensure!(netns.exists(), "no demo is up: `cargo xtask demo --keep` leaves one up");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", netns.display()));
        if self == Self::Pod {
            command.arg(format!("--mount={}", State::read(name)?.mounts.display()));
        }
        command.arg("--").arg(program).env("PATH", search_path()?);
        Ok(command)
    }
}

/// Replaces this process by a command in `place`, or by a shell.
///
/// # Errors
/// If no demo is up, or nothing can be run.
pub fn enter(name: &Name, place: Place, words: &[String]) -> Result<ExitCode> {
    let mut command = match words.split_first() {
        Some((program, arguments)) => {
            let mut command = place.command(name, program)?;
            command.args(arguments);
            command
        }
        None => {
            let mut command = place.command(name, "bash")?;
            command.args(["--norc", "-i"]).env("PS1", format!("{}$ ", place.name()));
            command
        }
    };
    Err(command.exec()).context("starting nsenter")
}

/// The search path with the folder of this program, which is that of Sluice's other programs, before the rest.
pub fn search_path() -> Result<std::ffi::OsString> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    let folder = own.parent().context("finding this program's folder")?.to_owned();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::iter::once(folder).chain(std::env::split_paths(&rest)).collect();
    std::env::join_paths(folders).context("making the search path")
}
