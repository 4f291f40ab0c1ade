//! Flags of the log.

use sluice_gateway::log::{self, LogFormat};

/// Where nothing else is said, lines for people, from `info` on.
#[derive(Debug, clap::Args)]
pub(super) struct Logging {
    /// How log lines look
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a list such as `info,sluice_controller=debug`
    #[arg(long, env = "SLUICE_LOG", default_value = "info", value_name = "FILTER")]
    log_level: String,
}

impl Logging {
    /// Starts the log.
    ///
    /// # Errors
    /// The filter is none, or there is a log already.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        log::start(self.log_format, &self.log_level)
    }
}
