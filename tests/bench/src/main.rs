//! Measures the data path. `cargo xtask bench` runs it, and shows what it finds; `--help` there explains it.

mod cost;
mod crr;
mod latency;
mod pps;
mod scale;
mod stream;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// What is measured. `cargo xtask bench --help` explains it.
#[derive(Parser)]
struct Args {
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of each contender in each round.
    #[arg(long, default_value_t = 300)]
    time: u64,
}

/// A part of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Pps,
    Crr,
    Stream,
    Latency,
    Scale,
    Cpu,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    time: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let effort = Effort { rounds: args.rounds, time: Duration::from_millis(args.time) };
    for part in &args.parts {
        let result = match part {
            Part::Pps => pps::run(effort),
            Part::Crr => crr::run(effort),
            Part::Stream => stream::run(effort),
            Part::Latency => latency::run(effort),
            Part::Scale => scale::run(effort),
            Part::Cpu => cost::run(effort),
        };
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
