//! `schema`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::output;
use crate::config;

/// Print the JSON schema of the gateway file, for editors and other tools.
#[derive(Debug, Args)]
pub struct Schema {}

impl Schema {
    pub fn execute(self) -> Result<ExitCode> {
        output::print(&config::schema())?;
        Ok(ExitCode::SUCCESS)
    }
}
