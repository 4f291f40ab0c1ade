//! What became of the BPF programs: their sizes, and what the kernel's verifier says of them.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, Result, bail};
use aya::{EbpfLoader, programs::Program};

/// Loading a program for a look does not need tables of full size.
const SMALL_MAP: u32 = 1024;

/// One program of an object.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Instructions that are loaded, with the functions it calls; 8 bytes each.
    pub instructions: usize,
    /// Instructions that the verifier went through, over all paths; the kernel allows a million. `None`: not asked.
    pub verified: Option<u32>,
}

/// The programs of an object file, by name, as far as can be told without the kernel.
///
/// # Errors
/// If the object cannot be read.
pub fn inspect(bytes: &[u8]) -> Result<Vec<Report>> {
    let mut object = aya_obj::Object::parse(bytes).context("parsing the object")?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).context("resolving its calls")?;
    let mut reports: Vec<Report> = object
        .programs
        .iter()
        .map(|(name, program)| {
            let instructions =
                object.functions.get(&program.function_key()).map_or(0, |f| f.instructions.len());
            Report { name: name.clone(), instructions, verified: None }
        })
        .collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    if reports.is_empty() {
        bail!("the object holds no program");
    }
    Ok(reports)
}

/// Lets the kernel verify the programs of an object. Nothing is attached or pinned, so nothing stays behind.
///
/// # Errors
/// If the verifier refuses a program: the end of its log is in the error.
pub fn verify(path: &Path, bytes: &[u8], reports: &mut [Report]) -> Result<()> {
    let object = aya_obj::Object::parse(bytes).context("parsing the object")?;
    let mut loader = EbpfLoader::new();
    for (name, _) in object.maps.iter().filter(|(_, map)| map.max_entries() > SMALL_MAP) {
        loader.map_max_entries(name, SMALL_MAP);
    }
    let mut ebpf = loader.load(bytes).with_context(|| format!("making the maps of {}", path.display()))?;
    for report in reports {
        let program =
            ebpf.program_mut(&report.name).with_context(|| format!("no program {}", report.name))?;
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => bail!("program {} is neither a tc nor an XDP program", report.name),
        }
        .with_context(|| format!("the kernel refused program {}", report.name))?;
        let info = program.info().with_context(|| format!("asking the kernel about {}", report.name))?;
        report.verified = info.verified_instruction_count();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(inspect(b"not an object").is_err());
    }
}
