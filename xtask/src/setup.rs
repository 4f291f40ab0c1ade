//! `cargo xtask setup`.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use crate::{
    kube,
    packages::{self, Group},
    process, toolchain, tools, ui,
};

const BPFFS: &str = "/sys/fs/bpf";

/// Checks what Sluice's development needs, and installs what is missing
///
/// As root on Debian and Ubuntu it installs; elsewhere it prints the exact commands. Every other command calls what it
/// needs of this by itself: setup is for preparing a machine, and for seeing what is used for what.
#[derive(clap::Args)]
pub struct Args {
    /// What to prepare
    #[arg(value_enum, default_values_t = [Group::Build, Group::Network])]
    groups: Vec<Group>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for group in &args.groups {
        match group {
            Group::Build => {
                ui::heading("Building");
                lint_tools()?;
                let compiler = toolchain::ensure()?;
                let linker = tools::bpf_linker(&compiler)?;
                ui::ok(&format!("bpf-linker {} ({})", tools::LINKER_VERSION, process::shorten(&linker)));
                compiler.clippy()?;
                tools::cargo_deny()?;
            }
            Group::Network => {
                ui::heading("Networks");
                bpffs()?;
            }
            Group::Bench => ui::heading("Benches"),
            Group::Kernels => ui::heading("Other kernels"),
            Group::Kubernetes => {
                ui::heading("Kubernetes");
                kube::ensure(kube::CONTROL_PLANE)?;
                kube::ensure(kube::NODES)?;
                kube::ensure(kube::HELM)?;
            }
        }
        packages::ensure(group.packages())?;
        for package in group.packages() {
            ui::ok(&format!("{:22} {}", package.name, package.purpose));
        }
    }
    ui::next(&[
        ("cargo xtask demo", "a guided tour (root)"),
        ("cargo xtask test", "build, lint and run every rung of tests (root)"),
    ]);
    Ok(ExitCode::SUCCESS)
}

/// Makes sure of rustfmt and clippy for the host's toolchain.
///
/// # Errors
/// If one is missing and rustup cannot add it.
pub fn lint_tools() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let version = || process::ask(process::cargo().args([subcommand, "--version"]));
        if version().is_none() && packages::find_program("rustup").is_some() {
            process::run(Command::new("rustup").args(["component", "add", component]))?;
        }
        match version() {
            Some(version) => ui::ok(&version),
            None => {
                bail!("there is no {component} for this Rust toolchain: rustup component add {component}")
            }
        }
    }
    Ok(())
}

/// Makes sure that the BPF file system is mounted where everybody expects it: pins live there.
///
/// # Errors
/// If it is not and this process may not mount it.
pub fn bpffs() -> Result<()> {
    if !is_mounted(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), BPFFS, "bpf") {
        if !packages::is_root() {
            bail!("no BPF file system on {BPFFS}. Run\n\n  sudo mount -t bpf bpf {BPFFS}");
        }
        if !Path::new(BPFFS).exists() {
            bail!("this kernel has no {BPFFS}: it lacks CONFIG_BPF_SYSCALL, or sysfs is not mounted on /sys");
        }
        process::run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))?;
    }
    ui::ok(&format!("BPF file system on {BPFFS}"));
    Ok(())
}

fn is_mounted(mounts: &str, folder: &str, kind: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(folder) && fields.next() == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bpf_file_system_in_its_place_counts() {
        let mounts = "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,relatime 0 0\n";
        assert!(is_mounted(mounts, BPFFS, "bpf"));
        assert!(!is_mounted("bpf /elsewhere bpf rw 0 0\n", BPFFS, "bpf"));
        assert!(!is_mounted("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", BPFFS, "bpf"));
    }
}
