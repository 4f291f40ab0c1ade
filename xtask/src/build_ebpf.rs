//! `cargo xtask build-ebpf`.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use cargo_metadata::PackageId;
use comfy_table::{CellAlignment, Table, presets};
use nix::sys::personality::{self, Persona};

use crate::{image, object, packages, paths::Paths, process, toolchain, toolchain::Compiler, tools, ui};

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";
const OBJECTS: [&str; 4] = ["sluice-v4", "sluice-v6", "sluice-yardstick", "sluice-bench-traffic"];
/// The packages whose binaries are the objects, as arguments.
pub const PACKAGES: [&str; 4] = ["--package", "sluice-gateway-ebpf", "--package", "sluice-bench-ebpf"];

/// Builds the BPF programs, and prints the size of each and what the verifier makes of it
///
/// The objects go to target/ebpf/, from where the gateway's build script embeds them. The compiler is the one that
/// SLUICE_BPF_RUSTC names, else a rustup nightly that has rust-src, else the distribution's. Counting verified
/// instructions means to load the programs, which takes root; nothing is attached, and nothing stays loaded.
#[derive(clap::Args)]
pub struct Args {
    /// Log every packet (aya-log); a debugging aid that costs most of the speed
    #[arg(long)]
    debug_log: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    build(args.debug_log)?;
    ui::next(&[
        ("cargo build -p sluice-gateway", "the gateway with these programs inside"),
        ("cargo xtask test packet", "run packets through them (root)"),
    ]);
    Ok(ExitCode::SUCCESS)
}

/// Builds the objects into `target/ebpf` and prints the table.
///
/// # Errors
/// If the tools cannot be had, the build fails, or the kernel refuses a program.
pub fn build(debug_log: bool) -> Result<()> {
    ui::heading("Building the BPF programs");
    let objects = objects(debug_log)?;
    report(&folder(), &objects)
}

/// Builds the objects into `target/ebpf`, and returns each with its name.
///
/// # Errors
/// If the tools cannot be had, or the build fails.
pub fn objects(debug_log: bool) -> Result<Vec<(&'static str, Vec<u8>)>> {
    process::run_quietly("building the BPF programs", &mut command(&PACKAGES, debug_log)?)?;

    let from = target_dir().join(TARGET).join(PROFILE);
    let to = folder();
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    let mut objects = Vec::new();
    for name in OBJECTS {
        let built = from.join(name);
        let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
        write_if_changed(&to.join(name), &bytes)?;
        objects.push((name, bytes));
    }
    Ok(objects)
}

/// The packages that the gateway's objects are made of. To be asked when they are built.
///
/// # Errors
/// If they cannot be built.
pub fn packages() -> Result<BTreeSet<PackageId>> {
    let mut command = command(&["--package", "sluice-gateway-ebpf"], false)?;
    let linked = image::linked("looking into the BPF programs", &mut command, TARGET)?;
    Ok(linked.packages)
}

fn command(packages: &[&str], debug_log: bool) -> Result<Command> {
    let compiler = toolchain::ensure()?;
    let linker = tools::bpf_linker(&compiler)?;
    let mut command = cargo(&compiler, &linker);
    command.arg("build").args(packages).args(["--bins", "--features"]);
    command.arg(if debug_log { "programs,log" } else { "programs" }).args(target_args());
    Ok(command)
}

/// Where the gateway's build script looks for the objects.
pub fn folder() -> PathBuf {
    process::root().join("target/ebpf")
}

/// The cargo that compiles for the BPF target, with the settings that it takes and free of the user's.
pub fn cargo(compiler: &Compiler, linker: &Path) -> Command {
    let mut command = compiler.cargo();
    process::forget_user_settings(&mut command);
    let link = format!("-Clinker={}", process::root().join("xtask/link-ebpf").display());
    // BTF is made from the debug information. CPU v3 (kernel 5.1 and later) has the 32-bit instructions and, what
    // matters more, lets the compare-and-swap on a map value compile.
    let mut flags = Paths::of(&compiler.rustc).flags();
    flags.extend(["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3", &link].map(str::to_owned));
    command
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("SLUICE_BPF_LINKER", linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // LLVM orders some types of the BTF by their addresses in memory: with random ones, each link has other bytes (and with those
    // that follow from a folder's path, what `link-ebpf` is for). Where this is forbidden, as in some containers, the objects are as good, but not the same.
    // SAFETY: between fork and exec two system calls, and no allocation.
    unsafe {
        command.pre_exec(|| {
            let _forbidden =
                personality::get().and_then(|now| personality::set(now | Persona::ADDR_NO_RANDOMIZE));
            Ok(())
        })
    };
    command
}

/// The arguments that name the target and where the build goes.
pub fn target_args() -> Vec<String> {
    let dir = process::shorten(&target_dir());
    ["--profile", PROFILE, "--target", TARGET, "-Zbuild-std=core", "--target-dir", &dir]
        .map(str::to_owned)
        .to_vec()
}

fn target_dir() -> PathBuf {
    process::root().join("target/ebpf-build")
}

/// The gateway is built anew when the file changes: an equal one must stay as it is.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn report(folder: &Path, objects: &[(&str, Vec<u8>)]) -> Result<()> {
    let root = packages::is_root();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["OBJECT", "PROGRAM", "INSTRUCTIONS", "BYTES", "VERIFIED"]);
    for (object, bytes) in objects {
        let mut programs = object::inspect(bytes).with_context(|| format!("object {object}"))?;
        if root {
            object::verify(&folder.join(object), bytes, &mut programs)
                .with_context(|| format!("object {object}"))?;
        }
        for program in &programs {
            let verified = program.verified.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let instructions = program.instructions;
            let size = instructions * 8;
            table.add_row([
                (*object).to_owned(),
                program.name.clone(),
                instructions.to_string(),
                size.to_string(),
                verified,
            ]);
        }
    }
    for column in 2..=4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    anstream::println!("\n{table}\n");
    if root {
        ui::ok(&format!(
            "kernel {} accepts every program (VERIFIED: instructions walked, of 1000000)",
            kernel.trim()
        ));
    } else {
        ui::note(
            "VERIFIED is empty because only root may load programs: run this command as root to fill it",
        );
    }
    ui::ok(&format!("objects in {}", process::shorten(folder)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_object_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("object");
        write_if_changed(&file, b"one").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        write_if_changed(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), long_ago);
        write_if_changed(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
