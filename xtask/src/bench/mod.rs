//! `cargo xtask bench`.

mod controller;
mod data_path;
mod document;
mod figures;
mod image;
mod plot;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use sluice_figures::Line;

use crate::{
    process,
    ui::{self, Output},
};
use data_path::Part;
use figures::{Figures, PLAIN};

/// Measures Sluice, and says where a goal is missed
///
/// Each bench builds what it measures as it is released, runs it beside nothing else of its own, prints one table at the end, and leaves
/// nothing behind. A goal that is missed makes the exit code 1. docs/performance.md has the figures of the developers' machine.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// How the figures are printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// Exit code 0 even where a goal is missed
    #[arg(long, global = true)]
    no_fail: bool,
}

#[derive(Subcommand)]
enum What {
    Controller(controller::Args),
    Image(image::Args),
    /// Packets per second of one core, beside iptables, nftables, routing and bare redirects
    Pps(data_path::Args),
    /// New TCP connections
    Crr(data_path::Args),
    /// TCP streams, both ways, and what they cost
    Stream(data_path::Args),
    /// Latency under load
    Latency(data_path::Args),
    /// Service ports, source ranges, memory, and the sweep of a million flows
    Scale(data_path::Args),
    /// CPU time of a packet
    Cpu(data_path::Args),
    /// All of the data path, into docs/performance/ unless told otherwise
    All(data_path::Args),
}

impl What {
    /// The part of the data path's bench, with its arguments.
    fn part(&self) -> Option<(Part, &data_path::Args)> {
        match self {
            Self::Controller(_) | Self::Image(_) => None,
            Self::Pps(args) => Some((Part::Pps, args)),
            Self::Crr(args) => Some((Part::Crr, args)),
            Self::Stream(args) => Some((Part::Stream, args)),
            Self::Latency(args) => Some((Part::Latency, args)),
            Self::Scale(args) => Some((Part::Scale, args)),
            Self::Cpu(args) => Some((Part::Cpu, args)),
            Self::All(args) => Some((Part::All, args)),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let benches = match (&args.what, args.what.part()) {
        (What::Controller(args), _) => vec![controller::prepare(args)?],
        (What::Image(args), _) => vec![image::prepare(args)?],
        (_, Some((part, args))) => data_path::prepare(part, args)?,
        (_, None) => Vec::new(),
    };
    ui::heading("Measuring");
    let mut figures = Figures::default();
    for mut bench in benches {
        measure(&mut bench, &mut figures)?;
    }
    match args.output {
        Output::Table => show(&figures),
        Output::Json => println!("{}", figures.json(&machine())),
    }
    if let Some((part, args)) = args.what.part()
        && let Some(folder) = args.folder(part)
    {
        document::write(&folder, &figures, &machine())?;
    }
    let missed = figures.missed();
    for figure in &missed {
        ui::note(&format!("missed: {figure}"));
    }
    Ok(if missed.is_empty() || args.no_fail { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the tables for people.
fn show(figures: &Figures) {
    for (section, table) in figures.tables(PLAIN) {
        if !section.is_empty() {
            ui::heading(section);
        }
        anstream::println!("\n{table}");
    }
    if let Some(goals) = figures.goals(PLAIN) {
        ui::heading("Goals");
        anstream::println!("\n{goals}");
    }
    anstream::println!("\nmeasured on {}", machine());
}

/// Runs a program that says what it does and finds, one [`Line`] of JSON each, and shows its progress.
fn measure(bench: &mut Command, figures: &mut Figures) -> Result<()> {
    let mut shown: Option<(String, ui::Progress)> = None;
    let mut strange = Ok(());
    // A test among the benches also says what tests say.
    let is_told = |line: &str| line.starts_with('{');
    let status = process::run_lines(bench, |line| match serde_json::from_str(line) {
        Err(_) if !is_told(line) => {}
        Ok(Line::Phase { phase, done, of }) => {
            if shown.as_ref().is_none_or(|(name, _)| *name != phase)
                && let Some((_, progress)) = shown.replace((phase.clone(), ui::Progress::start(&phase)))
            {
                progress.done();
            }
            if let Some((_, progress)) = &mut shown
                && of > 1
            {
                progress.step(done, of);
            }
        }
        Ok(Line::Figure(figure)) => figures.add(figure),
        Err(error) => strange = Err(error).with_context(|| format!("reading what the bench says: {line}")),
    })?;
    if let Some((_, progress)) = shown {
        progress.done();
    }
    strange?;
    if !status.success() {
        bail!("the bench could not be completed ({status}): see above");
    }
    Ok(())
}

/// What the figures depend on.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    format!(
        "{cpus} x {}, {} GiB, Linux {}, {}",
        field(&read("/proc/cpuinfo"), "model name"),
        memory.div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim(),
        process::ask(Command::new("date").args(["--utc", "+%F"])).unwrap_or_default()
    )
}
