//! `cargo xtask bench image`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    binaries, image,
    packages::{self, Group},
    setup, ui,
};

/// Sizes of the images, and what the gateway's takes to start and in memory
///
/// Runs the gateway's image in a containerd of its own, with the rights that its pod has, in the tests' network. A start is from the start of the
/// container until the gateway says that it serves; a kubelet adds up to a second, since it asks once a second. The pod's memory is what the
/// kernel counts for the container's limit: maps, process, and pages of the image that it was the first to read.
#[derive(clap::Args)]
#[command(after_help = "\
Goals:
  20 MiB on the node at most, for each image
  1 s from the container's start until it serves

Examples:
  cargo xtask bench image
  cargo xtask bench image --rounds 20 --flows 200000 -o json | tail -1")]
pub struct Args {
    /// How often a gateway is started
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections of the gateway whose memory is read
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=240_000))]
    flows: u32,
}

/// Builds all that it takes, and returns the command that measures.
///
/// # Errors
/// Without root, or if something cannot be built.
pub fn prepare(args: &Args) -> Result<Command> {
    if !packages::is_root() {
        bail!(
            "this bench runs containers, which takes root. Run\n\n  sudo -E env \"PATH=$PATH\" cargo xtask bench image"
        );
    }
    setup::bpffs()?;
    for group in [Group::Network, Group::Kubernetes] {
        packages::ensure(group.packages())?;
    }
    ui::heading("Building");
    let images = image::released()?;
    let mut bench = Command::new(binaries::build_image_bench()?);
    bench.arg(serde_json::to_string(&images)?);
    bench.args(["--rounds", &args.rounds.to_string(), "--flows", &args.flows.to_string()]);
    Ok(bench)
}
