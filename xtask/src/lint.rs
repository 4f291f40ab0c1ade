//! `cargo xtask lint`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{build_ebpf, process, setup, toolchain, tools, ui};

/// Checks formatting, clippy (on the host and on the BPF programs) and the dependencies
///
/// Any warning is an error. Dependencies are checked for licences, bans and sources as deny.toml says, without asking
/// an advisory database, so the result depends on nothing but the repository.
#[derive(clap::Args)]
pub struct Args {
    /// Let rustfmt and clippy mend what they can, before the check
    #[arg(long)]
    fix: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.fix {
        mend()?;
    }
    check()?;
    ui::next(&[("cargo xtask test", "the tests (root)")]);
    Ok(ExitCode::SUCCESS)
}

fn mend() -> Result<()> {
    const FIX: [&str; 3] = ["--fix", "--allow-dirty", "--allow-staged"];
    ui::heading("Mending");
    process::run(process::cargo().args(["clippy", "--workspace", "--all-targets"]).args(FIX))?;
    process::run(bpf_clippy_command()?.args(FIX))?;
    process::run(process::cargo().args(["fmt", "--all"]))
}

/// All checks; every one runs, whatever the others say.
///
/// # Errors
/// The failure of each check that failed.
pub fn check() -> Result<()> {
    ui::heading("Linting");
    setup::lint_tools()?;
    let checks: [fn() -> Result<()>; 4] = [formatting, clippy, bpf_clippy, dependencies];
    let mut failures = Vec::new();
    for check in checks {
        match check() {
            Err(error) if !error.is::<process::Interrupted>() => failures.push(error),
            other => other?,
        }
    }
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(anyhow::anyhow!(
            failures.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n")
        )),
    }
}

fn formatting() -> Result<()> {
    // rustfmt colours its differences even into a file, unless told otherwise.
    let color = if ui::has_colors() { "--color=always" } else { "--color=never" };
    process::run(process::cargo().args(["fmt", "--all", "--check", "--", color]))
        .context("formatting differs: run cargo fmt --all")
}

fn clippy() -> Result<()> {
    process::run(process::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        .context("clippy")
}

fn bpf_clippy() -> Result<()> {
    process::run(bpf_clippy_command()?.args(["--", "-D", "warnings"])).context("clippy on the BPF programs")
}

/// The programs exist only for the BPF target, so the host's clippy never sees them.
fn bpf_clippy_command() -> Result<Command> {
    let compiler = toolchain::ensure()?;
    let clippy = compiler.clippy()?;
    let linker = tools::bpf_linker(&compiler)?;
    let cargo = build_ebpf::cargo(&compiler, &linker);
    // cargo-clippy takes the clippy-driver beside itself, and the cargo that CARGO names.
    let mut command = Command::new(clippy);
    command.current_dir(process::root()).env("CARGO", cargo.get_program());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.arg("clippy").args(build_ebpf::PACKAGES).args(["--bins", "--features", "programs,log"]);
    command.args(build_ebpf::target_args());
    Ok(command)
}

fn dependencies() -> Result<()> {
    let mut command = Command::new(tools::cargo_deny()?);
    command.current_dir(process::root()).args([
        "--workspace",
        "--all-features",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    process::run(&mut command).context("dependencies: deny.toml says what is allowed")
}
