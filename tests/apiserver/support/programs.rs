//! The controller's program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sluice_cluster::programs;

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
    let file = programs::profile()?.join("sluice-controller");
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
