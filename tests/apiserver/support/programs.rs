//! Where the programs are that tests run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// etcd or one of Kubernetes' programs.
///
/// # Errors
/// It has not been built.
pub fn kubernetes(name: &str) -> Result<PathBuf> {
    let file = target()?.join("kube/bin").join(name);
    file.canonicalize()
        .with_context(|| format!("there is no {}: `cargo xtask setup kubernetes` builds it", file.display()))
}

/// Names a controller to take instead of the one that was built together with this program.
const CONTROLLER: &str = "SLUICE_CONTROLLER";

/// The controller that was built together with this program, or the one that the environment names.
///
/// # Errors
/// It has not been built.
pub fn controller() -> Result<PathBuf> {
    if let Some(file) = std::env::var_os(CONTROLLER) {
        return Ok(file.into());
    }
    let file = profile()?.join("sluice-controller");
    file.canonicalize().with_context(|| {
        format!("there is no {}: run the tests by `cargo xtask test apiserver`, or `cargo build -p sluice-controller` first", file.display())
    })
}

/// What the controller prints when it is called with `arguments`.
///
/// # Errors
/// It has not been built, or refuses them.
pub fn printed_by_controller(arguments: &[&str]) -> Result<String> {
    let output = Command::new(controller()?).args(arguments).output().context("starting the controller")?;
    ensure!(
        output.status.success(),
        "sluice-controller {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("the controller's output")
}

/// `target/<profile>`; this program is in `target/<profile>/deps`, or beside the others.
fn profile() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program's own path")?;
    let folder = program.parent().context("a program in no folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_deps { folder.parent() } else { Some(folder) };
    Ok(profile.context("a program in no folder of cargo's")?.to_owned())
}

fn target() -> Result<PathBuf> {
    profile()?.parent().map(Path::to_owned).context("a program in no folder of cargo's")
}
