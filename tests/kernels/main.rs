//! The `kernels` rung: the packet rung and one end-to-end case inside small virtual machines on other kernels, and the
//! loader's refusal on one that is too old. See `docs/kernels.md`.
//!
//! Needs `qemu-system-x86_64`, `xz`, apt and dpkg; no root.

mod binaries;
mod console;
mod cpio;
mod modules;
mod packages;
mod tools;
mod vm;

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use binaries::Binaries;
use cpio::Archive;
use packages::Kernel;
use vm::Machine;

/// Prints past the test harness, which would hide it: progress, counts and timings are wanted on success too.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        // Nothing to be done if stdout is gone.
        let _ = writeln!(std::io::stdout(), "kernels: {}", format_args!($($argument)*));
    }};
}
pub(crate) use say;

/// From power-on to power-off of one machine.
const DEADLINE: Duration = Duration::from_secs(300);
/// Verified instructions that a program may take: a tenth of the kernel's limit, so that a kernel whose verifier walks more
/// paths than these does not refuse it.
const BUDGET: u32 = 100_000;
/// Modules that the guests need; they are loaded with all that they depend on.
const MODULES: [&str; 5] = ["veth", "macvlan", "bridge", "sch_ingress", "cls_bpf"];
/// Programs of this machine that the guests need.
const TOOLS: [&str; 2] = ["ip", "tc"];

/// A step is a name and a command. This one loads every program alone, and prints its verified instructions.
const VERIFIER: (&str, &str) = ("verifier", "/init verifier");
/// The packet rung, but for what packets cost and for races: times under emulation, which decide both, say nothing about a
/// machine.
const PACKET: (&str, &str) = ("packet", "/bin/packet --skip cost:: --skip races::");

/// One machine at a time, so that each has the CPUs for itself and its time means something.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static BINARIES: OnceLock<Result<Binaries, String>> = OnceLock::new();

/// Debian 12. No TCX: programs are attached through clsact and cls_bpf.
#[test]
fn linux_6_1() {
    boot("bookworm", "6.1.", &[VERIFIER, PACKET, ("end-to-end", "/init end-to-end clsact")]).unwrap();
}

/// Debian 13. TCX.
#[test]
fn linux_6_12() {
    boot("trixie", "6.12.", &[VERIFIER, PACKET, ("end-to-end", "/init end-to-end tcx")]).unwrap();
}

/// Debian 11: older than what the programs need. The loader must say so itself, instead of passing on a verifier's log.
#[test]
fn linux_5_10_is_refused() {
    boot("bullseye", "5.10.", &[("refusal", "/init refusal")]).unwrap();
}

/// Boots the kernel of a Debian release, whose version must begin with `version`, and runs `steps`.
fn boot(codename: &str, version: &str, steps: &[(&str, &str)]) -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no workspace")?;
    let binaries = BINARIES.get_or_init(|| binaries::build(workspace).map_err(|error| format!("{error:#}")));
    let binaries = binaries.as_ref().map_err(|error| anyhow!("{error}"))?;
    let folder = workspace.join("target/kernels");
    let Kernel { release, image, modules } = packages::kernel(&folder, codename)?;
    ensure!(release.starts_with(version), "Debian {codename} now has kernel {release}, not {version}x");

    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    let plan: String = steps.iter().map(|(name, command)| format!("{name} {command}\n")).collect();
    say!("booting {release} for {}", names.join(", "));
    let machine = Machine {
        name: codename,
        kernel: &image,
        initramfs: &initramfs(binaries, &modules, &plan).context("making the initramfs")?,
        folder: &folder.join("machines"),
        deadline: DEADLINE,
    };
    let outcome = machine.run()?;
    let results = if outcome.timed_out {
        Err(anyhow!("still running after {DEADLINE:?}"))
    } else {
        console::judge(&outcome.console, &names)
    };
    let results = results
        .map_err(|error| anyhow!("Linux {release}: {error:#}; its console:\n{}", quoted(&outcome.console)))?;
    for (step, passed) in &results.passed {
        say!("{release}: {step}: {passed} passed");
    }
    for (program, instructions) in &results.programs {
        say!("{release}: {program}: {instructions} verified instructions");
        ensure!(
            *instructions <= BUDGET,
            "{program} takes Linux {release} more than {BUDGET} instructions to verify"
        );
    }
    say!("{release}: {:.1} s from power-on to power-off", outcome.took.as_secs_f64());
    Ok(())
}

/// Marks the lines as a quotation, so that nobody counts the results in them as ours.
fn quoted(console: &str) -> String {
    console.lines().map(|line| format!("  | {line}\n")).collect()
}

/// The guest's whole file system.
fn initramfs(binaries: &Binaries, modules: &Path, plan: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp"] {
        archive.directory(folder)?;
    }
    for tool in TOOLS {
        tools::add(&mut archive, tool)?;
    }
    let programs = [
        ("init", &binaries.guest),
        ("bin/packet", &binaries.packet),
        ("bin/sluice-gateway", &binaries.gateway),
    ];
    for (path, source) in programs {
        let content = std::fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        archive.file(path, &content)?;
    }
    archive.file("etc/plan", plan.as_bytes())?;
    for (position, module) in modules::collect(modules, &MODULES)?.iter().enumerate() {
        archive.file(&format!("modules/{position:02}-{}.ko", module.name), &module.object)?;
    }
    archive.finish()
}
