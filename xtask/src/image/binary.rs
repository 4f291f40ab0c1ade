//! The programs of the images: statically linked, and the same bytes wherever they are built.
//!
//! The same bytes come of the same commit, the same compilers (Rust, the BPF programs' and C), the same `libc.a`, and
//! `Cargo.lock`; paths of the machine are mapped away, and the user's settings for cargo do not count.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, PackageId};
use clap::ValueEnum;
use oci_spec::image;

use super::{PROFILE, recipe::Image};
use crate::{binaries, build_ebpf, paths::Paths, process, ui};

/// A processor that images are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Arch {
    /// x86_64
    Amd64,
    /// aarch64; takes its Rust target, and elsewhere than on an arm64 machine a cross compiler (Debian's gcc-aarch64-linux-gnu)
    Arm64,
}

impl Arch {
    const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As images call it.
    pub const fn oci(self) -> image::Arch {
        match self {
            Self::Amd64 => image::Arch::Amd64,
            Self::Arm64 => image::Arch::ARM64,
        }
    }
}

/// A program, and what cargo linked it from.
pub struct Program {
    /// The executable.
    pub bytes: Vec<u8>,
    /// Every package with code in it.
    pub packages: BTreeSet<PackageId>,
}

/// Builds the program of an image, alone: what another one needs of a shared package is not in it.
///
/// # Errors
/// If the compiler refuses it.
pub fn build(image: Image, arch: Arch, profile: &str) -> Result<Program> {
    let mut command = process::cargo();
    process::forget_user_settings(&mut command);
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let paths = Paths::of(Path::new("rustc"));
    flags.extend(paths.flags());
    if arch == Arch::Arm64 && cfg!(not(target_arch = "aarch64")) {
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    }
    let target = binaries::target().join("image");
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // Incremental builds cut a crate into other pieces.
        .env("CARGO_INCREMENTAL", "0")
        .env("SLUICE_EBPF_DIR", build_ebpf::folder())
        .args(["build", "--locked", "--profile", profile, "--target", arch.target()])
        .args(["--package", image.name(), "--bin", image.name(), "--target-dir"])
        .arg(process::shorten(&target));
    let mut built = linked(&format!("building {}", image.name()), &mut command, arch.target())?;
    let file = built.executable.take().with_context(|| format!("cargo built no {}", image.name()))?;
    let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    // In others there is what C's compiler writes for debuggers.
    if profile == PROFILE {
        paths
            .check(&bytes)
            .with_context(|| format!("{} would be another program elsewhere", image.name()))?;
    }
    Ok(Program { bytes, packages: built.packages })
}

/// What a build linked for its target.
#[derive(Default)]
pub struct Linked {
    executable: Option<PathBuf>,
    /// Packages with code for the target, and not only for the machine that builds.
    pub packages: BTreeSet<PackageId>,
}

/// Runs a build for `target`, and takes note of what it is made of.
///
/// # Errors
/// If it fails.
pub fn linked(what: &str, command: &mut std::process::Command, target: &str) -> Result<Linked> {
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let mut linked = Linked::default();
    let mut progress = ui::Progress::start(what);
    let status = process::run_lines(command, |line| {
        if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(line) {
            progress.line(&artifact.target.name);
            // Build scripts and macros lie elsewhere: they run while building.
            if artifact.filenames.iter().any(|file| file.components().any(|part| part.as_str() == target)) {
                linked.packages.insert(artifact.package_id);
            }
            if let Some(executable) = artifact.executable {
                linked.executable = Some(executable.into());
            }
        }
    })?;
    if !status.success() {
        bail!("{what} failed ({status}): see above");
    }
    progress.done();
    Ok(linked)
}
