//! Measures the controller against a real API server. `cargo xtask bench controller` runs it, and shows what it finds: see [`report`] for
//! how the two talk.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made panics")]

mod process;
mod report;
mod run;

use clap::{Parser, ValueEnum};

/// What is measured. `cargo xtask bench controller --help` explains it.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    services: usize,
    #[arg(long)]
    foreign_pods: usize,
    /// Seconds.
    #[arg(long)]
    steady: u64,
    #[arg(long = "stack", value_enum)]
    stacks: Vec<Stack>,
}

/// Addresses of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stack {
    Single,
    Dual,
}

impl Stack {
    const fn name(self) -> &'static str {
        match self {
            Self::Single => "IPv4",
            Self::Dual => "IPv4 and IPv6",
        }
    }
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for stack in &args.stacks {
            run::run(&args, *stack).await;
        }
    });
}
