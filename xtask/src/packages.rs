//! The programs that commands need from the distribution, what each is for, and how to get them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{process, ui};

/// Packages that are needed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Group {
    /// What builds the BPF programs and lints the code
    Build,
    /// What lays out and observes the networks of the demo and the netns tests
    Network,
    /// What the benches of the data path run besides
    Bench,
    /// What boots other kernels in small virtual machines
    Kernels,
    /// A real Kubernetes: containerd, and programs built from source (Go, minutes)
    Kubernetes,
}

/// One package, and the file by which its presence is seen: a bare name is looked up among the programs.
pub struct Package {
    /// Its name on Debian.
    pub name: &'static str,
    /// A program or an absolute path that it brings.
    pub file: &'static str,
    /// What Sluice uses it for.
    pub purpose: &'static str,
}

const fn package(name: &'static str, file: &'static str, purpose: &'static str) -> Package {
    Package { name, file, purpose }
}

/// Debian's rustc for the BPF programs: stable Rust cannot build `core` for a target that has no prebuilt one.
pub const BPF_TOOLCHAIN: &[Package] = &[
    package("rustc-web", "/usr/bin/rustc", "the compiler of the BPF programs, with LLVM 22"),
    package(
        "rust-web-src",
        "/usr/lib/rustlib/src/rust/library",
        "the source of `core`, built for the BPF target",
    ),
];

/// The clippy of that rustc.
pub const BPF_CLIPPY: &[Package] =
    &[package("rust-web-clippy", "/usr/bin/cargo-clippy", "clippy on the BPF programs")];

/// What bpf-linker is built against.
pub const LLVM_22: &[Package] =
    &[package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config", "the LLVM that bpf-linker links with")];

const NETWORK: &[Package] = &[
    package("iproute2", "ip", "network namespaces, links, rules and routes"),
    package("nftables", "nft", "kube-proxy's part of the node: ClusterIP to backends"),
    package("iptables", "iptables", "the original gateway's rules, as the oracle"),
    package("bpftool", "bpftool", "looking into the maps, as users will"),
    package("ethtool", "ethtool", "offload settings of the test links"),
    package("curl", "curl", "the client"),
    package("traceroute", "traceroute", "time-exceeded errors, seen from the client"),
];

const BENCH: &[Package] = &[package("iperf3", "iperf3", "TCP streams")];

const KERNELS: &[Package] = &[
    package("qemu-system-x86", "qemu-system-x86_64", "the virtual machine"),
    package("xz-utils", "xz", "reading compressed kernel modules"),
    package(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "trusting the kernels of other Debian releases",
    ),
];

/// What runs the pods of a cluster's nodes.
const KUBERNETES: &[Package] = &[
    package("containerd", "containerd", "the container runtime of each node"),
    package("runc", "runc", "starting containers"),
    package("containernetworking-plugins", "/usr/lib/cni/macvlan", "the pods' interfaces: bridge, macvlan"),
    package("iptables", "iptables", "kube-proxy's rules"),
];

impl Group {
    /// The packages of the group that every machine needs; [`Group::Build`] depends on the compilers that are there.
    pub fn packages(self) -> &'static [Package] {
        match self {
            Self::Build => &[],
            Self::Kubernetes => KUBERNETES,
            Self::Network => NETWORK,
            Self::Bench => BENCH,
            Self::Kernels => KERNELS,
        }
    }
}

impl Package {
    /// Is it, or the same from another source, on this machine?
    pub fn is_there(&self) -> bool {
        if self.file.starts_with('/') {
            Path::new(self.file).exists()
        } else {
            find_program(self.file).is_some()
        }
    }
}

/// Finds a program, also where a user's `PATH` does not look but root's does.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Does this process run as root?
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Does this machine install packages with apt?
pub fn has_apt() -> bool {
    Path::new("/etc/debian_version").exists() && find_program("apt-get").is_some()
}

/// Brings the packages that are missing onto the machine.
///
/// # Errors
/// If something is missing that this process cannot install: the error names the exact commands that do.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let list: String = missing.iter().map(|p| format!("\n  {:22} {}", p.name, p.purpose)).collect();
    if !has_apt() {
        let files: Vec<&str> = missing.iter().map(|package| package.file).collect();
        bail!(
            "this machine lacks:{list}\n\nThese are the names on Debian; install what brings {} here and try again",
            files.join(", ")
        );
    }
    if !is_root() {
        bail!(
            "this machine lacks:{list}\n\nRun\n\n  sudo apt-get update && sudo apt-get install -y {}",
            names.join(" ")
        );
    }
    ui::heading(&format!("Installing what is missing:{list}"));
    install(&names)?;
    for package in missing {
        if !package.is_there() {
            bail!("package {} was installed, but {} is not there", package.name, package.file);
        }
    }
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if !UPDATED.swap(true, Ordering::Relaxed) {
        // One unreachable source of many must not stop us: the installation tells whether it mattered.
        if let Err(error) = process::run_quietly("reading the package lists", apt_get().arg("update")) {
            if error.is::<process::Interrupted>() {
                return Err(error);
            }
            ui::note(&format!("apt-get update: {error}"));
        }
    }
    process::run_quietly(
        &format!("installing {}", names.join(" ")),
        apt_get()
            .args(["install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"])
            .args(names),
    )
    .context("installing packages")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(package("sh", "sh", "").is_there());
        assert!(package("sh", "/bin/sh", "").is_there());
        assert!(!package("none", "sluice-no-such-program", "").is_there());
        assert!(!package("none", "/no/such/file", "").is_there());
    }

    #[test]
    fn nothing_is_asked_for_what_is_there() {
        ensure(&[package("sh", "sh", "")]).unwrap();
    }
}
