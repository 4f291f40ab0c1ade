//! Every program before this kernel's verifier, on its own: so that a refusal shows which program and why, and with the
//! number of instructions that the verifier walked.

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use aya::EbpfLoader;
use aya::programs::Program;
use sluice_gateway::bpf::Objects;

use crate::report::Report;

/// The size of the flow tables, which the verifier does not look at.
const FLOWS: u32 = 1024;

/// Loads the programs of both families.
pub fn run() -> ExitCode {
    let mut report = Report::default();
    for (family, object) in [("v4", Objects::EMBEDDED.v4), ("v6", Objects::EMBEDDED.v6)] {
        let tables = ["flows", "replies"].map(|table| format!("{table}_{family}"));
        let mut loader = EbpfLoader::new();
        for table in &tables {
            loader.map_max_entries(table, FLOWS);
        }
        match loader.load(object) {
            Ok(mut loaded) => {
                for (name, program) in loaded.programs_mut() {
                    report.case(&format!("verifier_accepts_{name}"), || verify(name, program));
                }
            }
            Err(error) => report.case(&format!("object_{family}_loads"), || Err(anyhow!(error))),
        }
    }
    report.finish()
}

fn verify(name: &str, program: &mut aya::programs::Program) -> Result<()> {
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => return Err(anyhow!("it is neither a tc nor an XDP program")),
    }
    .context("the verifier refused it")?;
    let instructions = program
        .info()
        .context("asking for its description")?
        .verified_instruction_count()
        .context("the kernel does not say how many instructions it verified")?;
    println!("@sluice program {name} {instructions}");
    Ok(())
}
