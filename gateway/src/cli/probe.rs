//! `live` and `ready`: the probes for a kubelet that cannot reach the pod's network, and for scripts.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Place;
use crate::admin;

/// Probes. Exit code 0: yes; 1: no, and why on standard error.
#[derive(Debug, Subcommand)]
pub enum Probe {
    /// Exit with 0 if the daemon does its work (the same as `/livez`).
    Live(Target),
    /// Exit with 0 if every VIP is served (the same as `/readyz`).
    Ready(Target),
}

#[derive(Debug, Args)]
pub struct Target {
    #[command(flatten)]
    place: Place,
}

impl Probe {
    pub fn execute(self) -> Result<ExitCode> {
        let (path, place) = match &self {
            Self::Live(target) => ("/livez", &target.place),
            Self::Ready(target) => ("/readyz", &target.place),
        };
        let answer = admin::get(&place.runtime_dir.socket(), path)?;
        if answer.success {
            return Ok(ExitCode::SUCCESS);
        }
        eprint!("{}", String::from_utf8_lossy(&answer.body));
        Ok(ExitCode::FAILURE)
    }
}
