//! `run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::Place;
use crate::log::{self, LogFormat};
use crate::run::{self, Options};

/// Serve the gateway file, until SIGTERM or Ctrl-C.
///
/// The file is watched; an edit is in force within milliseconds, a bad edit is refused whole and the last good file stays
/// in force. At the end the programs, addresses and routes stay, so that a restart or an upgrade drops no packet.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs the capabilities NET_ADMIN, NET_RAW, BPF and PERFMON, a BPF file system, and Linux 6.1 or newer.

Examples:
  sluice-gateway run --config gateway.yaml
  sluice-gateway run --config gateway.yaml --gateway-id test --runtime-dir /tmp/test --detach-on-exit")]
pub struct Run {
    /// The gateway file; see `sluice-gateway schema` and docs/configuration.md.
    #[arg(
        short,
        long,
        env = "SLUICE_CONFIG",
        default_value = "/etc/sluice/gateway.yaml",
        value_name = "FILE"
    )]
    config: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Remove programs, maps, addresses and routes at the end, as `cleanup` does.
    #[arg(long)]
    detach_on_exit: bool,
    /// Look at everything again at least this often.
    #[arg(long, default_value_t = run::DEFAULT_RESYNC.into(), value_name = "TIME", value_parser = resync)]
    resync: humantime::Duration,
    /// How log lines look.
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a list such as `info,sluice_gateway::net=debug`.
    #[arg(long, env = "SLUICE_LOG", default_value = "info", value_name = "FILTER")]
    log_level: String,
}

impl Run {
    pub fn execute(self) -> Result<ExitCode> {
        log::start(self.log_format, &self.log_level)?;
        let options = Options {
            config: self.config,
            pins: self.place.pins(),
            folder: self.place.runtime_dir,
            detach_on_exit: self.detach_on_exit,
            resync: self.resync.into(),
            hook: None,
        };
        run::start(options)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A shorter one would do nothing but passes.
const SHORTEST_RESYNC: Duration = Duration::from_millis(100);

fn resync(text: &str) -> Result<humantime::Duration, String> {
    match text.parse::<humantime::Duration>() {
        Ok(time) if *time >= SHORTEST_RESYNC => Ok(time),
        Ok(_) => Err("must be 100ms or more".to_owned()),
        Err(error) => Err(format!("{error}; write a time such as 10s")),
    }
}
