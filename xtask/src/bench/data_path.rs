//! `cargo xtask bench pps`, `crr`, `stream`, `latency`, `scale`, `cpu`, and `all` of them.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    binaries, build_ebpf,
    packages::{self, Group},
    process, setup, ui,
};

/// A part of the bench.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Pps,
    Crr,
    Stream,
    Latency,
    Scale,
    Cpu,
    All,
}

impl Part {
    const EACH: [Self; 6] = [Self::Pps, Self::Crr, Self::Stream, Self::Latency, Self::Scale, Self::Cpu];

    /// As it is called on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Pps => "pps",
            Self::Crr => "crr",
            Self::Stream => "stream",
            Self::Latency => "latency",
            Self::Scale => "scale",
            Self::Cpu => "cpu",
            Self::All => "all",
        }
    }

    fn includes(self, part: Self) -> bool {
        self == part || self == Self::All
    }
}

/// How much is measured.
#[derive(clap::Args)]
#[command(after_help = "\
How: each contender has namespaces of its own, with net1, eth0 and a peer
beyond; all of them take turns, and a figure is the median of the rounds.
Packets are made by a BPF program over live XDP frames on CPU 1; a sink
counts them, and looks at each 61st byte for byte: one that is not
translated as it should be ends the bench. Rates are those of one core and
of its own time, the generator's and the sink's work included. For
latencies and CPU time, packet steering gives the pod the other core.

Examples:
  cargo xtask bench pps                     packets per second
  cargo xtask bench all                     everything, into docs/performance/
  cargo xtask bench latency --rounds 9 -o json")]
pub struct Args {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one turn in which packets are counted
    #[arg(long, default_value_t = 300, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(10..))]
    time: u32,
    /// Writes JSON, Markdown and plots into this folder; for `all`, docs/performance unless given
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
}

impl Args {
    /// Where the figures are to be written.
    pub fn folder(&self, part: Part) -> Option<PathBuf> {
        let usual = || (part == Part::All).then(|| process::root().join("docs/performance"));
        self.save.clone().or_else(usual)
    }
}

/// Builds all that it takes, and returns the commands that measure `part`.
///
/// # Errors
/// Without root, or if something cannot be built.
pub fn prepare(part: Part, args: &Args) -> Result<Vec<Command>> {
    if !packages::is_root() {
        bail!(
            "this bench makes network namespaces and loads BPF programs, which takes root. Run\n\n  sudo -E env \"PATH=$PATH\" \
             cargo xtask bench {}",
            part.name()
        );
    }
    setup::bpffs()?;
    for group in [Group::Network, Group::Bench] {
        packages::ensure(group.packages())?;
    }
    ui::heading("Building");
    build_ebpf::objects(false)?;
    let mut bench = Command::new(binaries::build_data_path_bench()?);
    bench.args(Part::EACH.into_iter().filter(|each| part.includes(*each)).map(Part::name));
    bench.args(["--rounds", &args.rounds.to_string(), "--time", &args.time.to_string()]);
    let mut benches = vec![bench];
    if part.includes(Part::Cpu) {
        benches.push(binaries::cost_test()?);
    }
    Ok(benches)
}
