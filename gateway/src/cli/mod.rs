//! The command line: one file per command.

mod check;
mod cleanup;
mod flows;
mod lb_svc;
mod output;
mod probe;
mod run;
mod schema;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::bpf::pins::{self, GatewayId, Pins};
use crate::run::RuntimeFolder;

/// The gateway of one LoadBalancer Service: forwards packets of its VIPs to their targets with eBPF.
#[derive(Debug, Parser)]
#[command(
    name = "sluice-gateway",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  sluice-gateway check gateway.yaml        is this file good?
  sluice-gateway run --config gateway.yaml serve it
  sluice-gateway status                    what is served, and how much of it
  sluice-gateway flows --service default/web --limit 20
  sluice-gateway cleanup                   remove everything that Sluice made here"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Status(status::StatusCommand),
    Flows(flows::Flows),
    Cleanup(cleanup::Cleanup),
    #[command(flatten)]
    Probe(probe::Probe),
    Schema(schema::Schema),
}

/// Where a gateway keeps its things; the same for every command that looks at a gateway.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// BPF file system that holds the pinned maps and links.
    #[arg(long, env = "SLUICE_BPFFS", default_value = pins::BPFFS, value_name = "DIR")]
    pub bpffs: PathBuf,
    /// Name of this gateway below the BPF file system; in a pod, its UID.
    #[arg(long, env = "SLUICE_GATEWAY_ID", default_value = "default", value_name = "ID")]
    pub gateway_id: GatewayId,
    /// Folder for the daemon's socket, its lock and the copy of the last good file.
    #[arg(long, env = "SLUICE_RUNTIME_DIR", default_value = "/run/sluice", value_name = "DIR")]
    pub runtime_dir: RuntimeFolder,
}

impl Place {
    /// This gateway's folders in the BPF file system.
    pub fn pins(&self) -> Pins {
        Pins::new(&self.bpffs, self.gateway_id.clone())
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let other_name = lb_svc::called_as(std::env::args_os());
    match other_name.unwrap_or_else(|| Cli::parse().command.execute()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn execute(self) -> Result<ExitCode> {
        match self {
            Self::Run(command) => command.execute(),
            Self::Check(command) => command.execute(),
            Self::Status(command) => command.execute(),
            Self::Flows(command) => command.execute(),
            Self::Cleanup(command) => command.execute(),
            Self::Probe(command) => command.execute(),
            Self::Schema(command) => command.execute(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
