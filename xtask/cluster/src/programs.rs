//! Where the programs are that clusters and tests run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::spec::INIT;

/// etcd, one of Kubernetes' programs, or another that xtask builds from a Go module.
///
/// # Errors
/// It has not been built.
pub fn kubernetes(name: &str) -> Result<PathBuf> {
    let file = target()?.join("kube/bin").join(name);
    file.canonicalize()
        .with_context(|| format!("there is no {}: `cargo xtask setup kubernetes` builds it", file.display()))
}

/// The first process of machines, built together with this program.
pub(crate) fn init() -> Result<PathBuf> {
    let file = profile()?.join(INIT);
    file.canonicalize()
        .with_context(|| format!("there is no {}: `cargo build -p sluice-cluster` builds it", file.display()))
}

/// `target/<profile>`; this program is in `target/<profile>/deps`, or beside the others.
///
/// # Errors
/// This program was moved away from there.
pub fn profile() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program's own path")?;
    let folder = program.parent().context("a program in no folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_deps { folder.parent() } else { Some(folder) };
    Ok(profile.context("a program in no folder of cargo's")?.to_owned())
}

/// `target`.
///
/// # Errors
/// As of [`profile`].
pub fn target() -> Result<PathBuf> {
    profile()?.parent().map(Path::to_owned).context("a program in no folder of cargo's")
}
