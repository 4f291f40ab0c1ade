//! Sluice's own programs, as the demo and the tests run them.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::process;

/// The demo's program.
pub const DEMO: &str = "sluice-demo";

/// Builds the gateway, with the BPF programs that are in `target/ebpf` inside, the controller and the demo.
///
/// # Errors
/// If the compiler refuses one.
pub fn build() -> Result<()> {
    let mut command = process::cargo();
    command.args(["build", "--package", "sluice-gateway", "--package", "sluice-controller"]);
    command.args(["--package", "sluice-tests", "--bins"]);
    process::run_quietly("building gateway and controller", &mut command)
}

/// Builds the first process of a cluster's machines.
///
/// # Errors
/// If the compiler refuses it.
pub fn build_cluster() -> Result<()> {
    let mut command = process::cargo();
    command.args(["build", "--package", "sluice-cluster", "--bins"]);
    process::run_quietly("building what clusters are made of", &mut command)
}

/// Builds the controller as it is released, and what measures it. Returns where they are.
///
/// # Errors
/// If the compiler refuses one.
pub fn build_controller_bench() -> Result<(PathBuf, PathBuf)> {
    let mut command = process::cargo();
    command.args(["build", "--release", "--package", "sluice-controller"]);
    process::run_quietly("building the controller as it is released", &mut command)?;
    let mut command = process::cargo();
    command.args(["build", "--package", "sluice-apiserver-tests", "--bins"]);
    process::run_quietly("building what measures it", &mut command)?;
    Ok((target().join("release/sluice-controller"), path("sluice-bench-controller")))
}

/// Builds the gateway as it is released, and what measures its data path. Returns where the latter is; it finds the gateway beside
/// itself.
///
/// # Errors
/// If the compiler refuses one.
pub fn build_data_path_bench() -> Result<PathBuf> {
    let mut command = process::cargo();
    command.args([
        "build",
        "--release",
        "--package",
        "sluice-gateway",
        "--package",
        "sluice-bench",
        "--bins",
    ]);
    process::run_quietly("building the gateway as it is released, and what measures it", &mut command)?;
    Ok(target().join("release/sluice-bench"))
}

/// Builds what measures the images. Returns where it is.
///
/// # Errors
/// If the compiler refuses it.
pub fn build_image_bench() -> Result<PathBuf> {
    let mut command = process::cargo();
    command.args(["build", "--package", "sluice-bench", "--bin", "sluice-bench-image"]);
    process::run_quietly("building what measures them", &mut command)?;
    Ok(path("sluice-bench-image"))
}

/// Builds the packet rung's test that compares an established packet with its yardstick, and returns the command that lets it say
/// what it finds.
///
/// # Errors
/// If the compiler refuses it.
pub fn cost_test() -> Result<Command> {
    let cargo = || {
        let mut command = process::cargo();
        command.args(["test", "--release", "--package", "sluice-tests", "--test", "packet"]);
        command
    };
    process::run_quietly("building the test of an established packet", cargo().arg("--no-run"))?;
    let mut command = cargo();
    command.env("SLUICE_FIGURES", "1").args(["--quiet", "--", "cost::", "--nocapture", "--test-threads=1"]);
    Ok(command)
}

/// Where [`build`] puts a program.
pub fn path(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    process::root().join(target)
}
