//! `cargo xtask bench pps`, `crr`, `stream`, `latency`, `scale`, `cpu`, and `all` of them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    binaries, build_ebpf,
    packages::{self, Group},
    setup, ui,
};

/// How much is measured.
#[derive(clap::Args)]
pub struct Args {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one turn in which packets are counted
    #[arg(long, default_value_t = 300, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(10..))]
    time: u32,
}

/// Builds all that it takes, and returns the command that measures `part`.
///
/// # Errors
/// Without root, or if something cannot be built.
pub fn prepare(part: &str, args: &Args) -> Result<Command> {
    if !packages::is_root() {
        bail!(
            "this bench makes network namespaces and loads BPF programs, which takes root. Run\n\n  sudo -E env \"PATH=$PATH\" \
             cargo xtask bench {part}"
        );
    }
    setup::bpffs()?;
    for group in [Group::Network, Group::Bench] {
        packages::ensure(group.packages())?;
    }
    ui::heading("Building");
    build_ebpf::objects(false)?;
    let mut bench = Command::new(binaries::build_data_path_bench()?);
    bench.arg(part);
    bench.args(["--rounds", &args.rounds.to_string(), "--time", &args.time.to_string()]);
    Ok(bench)
}
