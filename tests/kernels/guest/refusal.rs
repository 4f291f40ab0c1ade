//! A kernel that is too old: the loader must say what it needs and why, and change nothing.

use std::process::{ExitCode, Output};

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use sluice_tests::topology::Topology;

use crate::gateway;
use crate::report::Report;

/// The oldest kernel that the loader accepts, as it must name it.
const MINIMUM: &str = "6.1";

/// Asserts that the loader refuses this kernel.
pub fn run() -> ExitCode {
    let mut report = Report::default();
    report.case("run_refuses_and_names_the_minimum_kernel", || {
        let topology = Topology::builder().unproxied().build()?;
        let file = gateway::write_file()?;
        let output = gateway::command(&topology.pod, &["run", "--config", &file])
            .output()
            .context("starting the gateway")?;
        refused(&output)?;
        let programs = loaded_programs().count();
        ensure!(programs == 0, "{programs} BPF programs stayed in the kernel");
        Ok(())
    });
    report.finish()
}

fn refused(output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    print!("{said}");
    ensure!(!output.status.success(), "the gateway accepted a kernel that is too old");
    ensure!(said.contains(MINIMUM), "the refusal does not name {MINIMUM}");
    ensure!(said.contains("5.10"), "the refusal does not name the running kernel");
    ensure!(said.contains("compare-and-swap"), "the refusal does not say why");
    Ok(())
}
