//! `flows`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Place;
use super::output::Format;

/// List flows.
#[derive(Debug, Args)]
pub struct Flows {
    #[command(flatten)]
    place: Place,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Flows {
    pub fn execute(self) -> Result<ExitCode> {
        anyhow::bail!("not yet: {:?} {:?}", self.place, self.output)
    }
}
