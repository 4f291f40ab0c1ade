//! The seed's network with Sluice in it, and a guide who shows it: what `cargo xtask demo` builds and runs.
//!
//! Two processes. The *keeper* holds everything that exists only for the demo: namespaces, the gateway's container, the web
//! servers. The *guide* looks at it from outside by commands that anybody could type. The keeper cleans up when its
//! standard input ends, so however the guide ends, nothing stays; unless the guide has told it to stay.

mod keeper;
mod place;
mod state;
mod tour;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::place::Place;
use crate::state::Name;

/// The seed's network with Sluice in it, and a guide who shows it.
#[derive(Debug, Parser)]
#[command(name = "sluice-demo")]
struct Cli {
    /// Begins the names of the namespaces that it makes.
    #[arg(long, global = true, default_value = "sluice-demo")]
    name: Name,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lays everything out, shows it and takes it away.
    Tour {
        /// Leaves it up at the end.
        #[arg(long)]
        keep: bool,
    },
    /// Opens a shell in one of the places, or runs a command there.
    Enter {
        /// Where.
        #[arg(value_enum)]
        place: Place,
        /// What to run; a shell unless given.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Takes away what `tour --keep` left, or what a killed demo could not take away.
    Down,
    /// Holds everything while its standard input is open.
    #[command(hide = true)]
    Hold,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Tour { keep } => tour::run(&cli.name, *keep),
        Command::Enter { place, command } => place::enter(&cli.name, *place, command),
        Command::Down => state::take_down(&cli.name),
        Command::Hold => keeper::run(&cli.name),
    }
}
