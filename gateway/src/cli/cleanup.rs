//! `cleanup`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::Place;
use crate::run;

/// Remove everything that Sluice made for this gateway, and nothing else.
///
/// Addresses, rules and routes that carry Sluice's mark, programs on the devices, and the pinned maps with all flows. Must
/// run in the gateway's network namespace while no daemon runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-gateway cleanup
  ip netns exec gateway sluice-gateway cleanup --gateway-id test --runtime-dir /tmp/test")]
pub struct Cleanup {
    #[command(flatten)]
    place: Place,
}

impl Cleanup {
    pub fn execute(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting a runtime for netlink")?;
        for line in runtime.block_on(run::cleanup(&self.place.pins(), &self.place.runtime_dir))? {
            println!("{line}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
