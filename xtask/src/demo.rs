//! `cargo xtask demo`.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    binaries, build_ebpf,
    packages::{self, Group},
    process, ui,
};

/// Shows Sluice at work: a guided tour through a small network of namespaces
///
/// Builds everything, lays out clients, router, node and gateway pod, serves a Service from the example manifests, asks its
/// address from outside, and shows what the pod, the gateway and the BPF maps have to say. Then it takes everything away,
/// also after Ctrl-C. It touches nothing of the machine's own network.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask demo                    the tour
  cargo xtask demo --keep             the tour; afterwards all stays up, to play with
  cargo xtask demo --enter pod        a shell in the gateway's container, while it is up
  cargo xtask demo --enter client -- curl -s http://172.18.0.18/
  cargo xtask demo --down             take it away

Places: client, far, router, node, pod, backend0, backend1")]
pub struct Args {
    /// Leave it up at the end
    #[arg(long)]
    keep: bool,
    /// Open a shell in one of the places of a demo that is up, or run a command there
    #[arg(long, value_name = "PLACE", conflicts_with = "keep")]
    enter: Option<String>,
    /// Take away what `--keep` left up
    #[arg(long, conflicts_with_all = ["keep", "enter"])]
    down: bool,
    /// What to run in the place
    #[arg(last = true, requires = "enter")]
    command: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if !packages::is_root() {
        bail!(
            "the demo makes network namespaces and loads BPF programs, which takes root. Run\n\n  sudo -E env \"PATH=$PATH\" \
             cargo xtask demo"
        );
    }
    let mut demo = Command::new(binaries::path(binaries::DEMO));
    if args.down || args.enter.is_some() {
        if !binaries::path(binaries::DEMO).exists() {
            bail!("no demo is up: it has never been built here");
        }
        match &args.enter {
            Some(place) => demo.args(["enter", place, "--"]).args(&args.command),
            None => demo.arg("down"),
        };
        // In xtask's place, so that a shell has the terminal to itself.
        return Err(demo.exec()).context("starting the demo's program");
    }
    packages::ensure(Group::Network.packages())?;
    ui::heading("Building");
    build_ebpf::objects(false)?;
    binaries::build()?;
    process::run(demo.arg("tour").args(args.keep.then_some("--keep")))?;
    if !args.keep {
        ui::next(&[
            ("cargo xtask demo --keep", "the same, and it stays up to play with"),
            ("cargo xtask test", "build, lint and run every rung of tests"),
        ]);
    }
    Ok(ExitCode::SUCCESS)
}
