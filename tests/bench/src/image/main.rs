//! What the gateway's image costs: its size, the time from its start until it serves, and the memory of its pod. In a real container
//! runtime, in the tests' network. `cargo xtask bench image` runs it, and shows what it finds.

mod containerd;
mod pod;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Deserialize;
use sluice_bench::report::{Section, rounded};
use sluice_bench::rounds::Rounds;
use sluice_figures::{Goal, Phase};

use containerd::Containerd;
use pod::{Memory, Pod};

/// What is measured. `cargo xtask bench image --help` explains it.
#[derive(Parser)]
struct Args {
    /// What `cargo xtask image -o json` prints.
    images: String,
    /// How often a gateway is started.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Flows of the gateway whose memory is read.
    #[arg(long, default_value_t = 100_000)]
    flows: u32,
}

/// An image, as `cargo xtask image` tells of it.
#[derive(Deserialize)]
struct Image {
    reference: String,
    file: PathBuf,
    unpacked: u64,
    compressed: u64,
}

const MIB: f64 = 1_048_576.0;
/// What an image may take on a node, MiB.
const LARGEST: f64 = 20.0;
/// From the start of the container until it serves, seconds.
const LONGEST: f64 = 1.0;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let images: Vec<Image> = serde_json::from_str(&args.images).context("reading what the images are")?;
    for image in &images {
        let name = image.reference.trim_start_matches("docker.io/library/");
        let sizes = Section("Images");
        sizes.value(name, "on the node", mib(image.unpacked), "MiB", Some(Goal::at_most(LARGEST)));
        sizes.value(name, "pulled", mib(image.compressed), "MiB", None);
    }
    let gateway =
        images.iter().find(|image| image.reference.contains("gateway")).context("no image of the gateway")?;
    let containerd = Containerd::start()?;
    containerd.run(&["images", "import", &gateway.file.display().to_string()])?;

    let mut starts = Rounds::default();
    let mut phase = Phase::begin("starting gateways", args.rounds);
    for round in 0..args.rounds {
        let pod = Pod::start(&containerd, &gateway.reference)?;
        starts.0.push(pod.start_time.as_secs_f64());
        phase.done(round + 1);
    }
    let goal = Some(Goal::at_most(LONGEST));
    Section("Gateway").rounds("container's start until it serves", "start", &starts, "s", goal);

    let pod = Pod::start(&containerd, &gateway.reference)?;
    memory("idle", pod.memory()?);
    let mut phase = Phase::begin("making flows", args.flows as usize);
    pod.make_flows(args.flows, |made| phase.done(made))?;
    memory(&format!("{} flows", args.flows), pod.memory()?);
    Ok(())
}

fn memory(case: &str, memory: Memory) {
    let section = Section("Memory");
    section.value("pod, as its limit counts", case, mib(memory.pod), "MiB", None);
    section.value("of it the maps", case, mib(memory.maps), "MiB", None);
    section.value("process in RAM", case, mib(memory.process), "MiB", None);
    section.value("of it not from the image", case, mib(memory.private), "MiB", None);
}

fn mib(bytes: u64) -> f64 {
    rounded(bytes as f64 / MIB)
}
