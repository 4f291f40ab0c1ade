//! Tools that are built from source into `target/tools`, where they disturb nothing else on the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{packages, process, toolchain::Compiler, ui};

/// The version of bpf-linker that the objects are made with.
pub const LINKER_VERSION: &str = "0.13.0";
/// The major versions of LLVM that it can be built for.
pub const LINKABLE_LLVM: [u32; 3] = [21, 22, 23];
const DENY_VERSION: &str = "0.20.2";

/// The bpf-linker for this compiler, built if it is not there.
///
/// # Errors
/// If it cannot be built.
pub fn bpf_linker(compiler: &Compiler) -> Result<PathBuf> {
    let linker = linker_path(compiler.llvm);
    if version_of(&linker).is_none_or(|version| version != LINKER_VERSION) {
        let prefix = llvm_prefix(compiler.llvm).with_context(|| {
            format!("bpf-linker needs LLVM {0}, and there is no llvm-{0}-dev", compiler.llvm)
        })?;
        ui::note("bpf-linker is built from source once, which takes about a minute");
        let feature = format!("llvm-{}", compiler.llvm);
        install(
            "bpf-linker",
            LINKER_VERSION,
            &tools().join(&feature),
            &["--no-default-features", "--features", &feature],
            &[("LLVM_PREFIX", &prefix)],
        )?;
    }
    Ok(linker)
}

/// Can bpf-linker be had for this major version of LLVM?
pub fn llvm_is_there(major: u32) -> bool {
    linker_path(major).exists() || llvm_prefix(major).is_some()
}

/// [`LINKABLE_LLVM`] in words.
pub fn linkable_llvm() -> String {
    LINKABLE_LLVM.map(|major| major.to_string()).join(" or ")
}

/// cargo-deny: the one on the machine, else one of our own.
///
/// # Errors
/// If it cannot be built.
pub fn cargo_deny() -> Result<PathBuf> {
    let own = tools().join("bin/cargo-deny");
    if let Some(there) = packages::find_program("cargo-deny") {
        return Ok(there);
    }
    if version_of(&own).is_none_or(|version| version != DENY_VERSION) {
        ui::note("cargo-deny is built from source once, which takes about a minute");
        // Its own optimisation would take longer than the two seconds that it runs unoptimised.
        install("cargo-deny", DENY_VERSION, &tools(), &["--debug"], &[])?;
    }
    Ok(own)
}

fn tools() -> PathBuf {
    process::root().join("target/tools")
}

fn linker_path(llvm: u32) -> PathBuf {
    tools().join(format!("llvm-{llvm}/bin/bpf-linker"))
}

/// Where LLVM of this major version is installed with its headers.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let named = std::env::var_os("LLVM_PREFIX").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from(format!("/usr/lib/llvm-{major}")), "/usr".into()]).find(|prefix| {
        process::ask(Command::new(prefix.join("bin/llvm-config")).arg("--version"))
            .and_then(|version| version.split('.').next()?.parse().ok())
            == Some(major)
    })
}

/// The last word of what `--version` prints.
fn version_of(program: &Path) -> Option<String> {
    process::ask(Command::new(program).arg("--version"))?.split_whitespace().last().map(str::to_owned)
}

fn install(name: &str, version: &str, to: &Path, more: &[&str], env: &[(&str, &Path)]) -> Result<()> {
    let mut command = process::cargo();
    // Settings meant for the user's own programs change neither the tools nor where they are built.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
        .envs(env.iter().copied())
        .args(["install", name, "--version", version, "--locked", "--force", "--root"])
        .arg(to);
    // Kept until it succeeds, so that an interrupted build goes on where it was.
    let build = tools().join("build");
    command.args(more).env("CARGO_TARGET_DIR", &build);
    process::run_quietly(&format!("building {name} {version}"), &mut command)?;
    fs::remove_dir_all(&build).with_context(|| format!("removing {}", build.display()))
}
