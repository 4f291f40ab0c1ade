//! The programs that run inside a guest, built so that they need nothing but a kernel: statically linked, stripped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::say;

/// The only architecture for which there is a recipe.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Cargo profile: quick to build, and quick enough under emulation.
const PROFILE: &str = "guest";

/// Paths of the built programs.
pub struct Binaries {
    /// The guest's init, and its end-to-end test.
    pub guest: PathBuf,
    /// The loader.
    pub gateway: PathBuf,
    /// The packet rung.
    pub packet: PathBuf,
}

/// Builds them below `<workspace>/target/guest`.
pub fn build(workspace: &Path) -> Result<Binaries> {
    ensure!(cfg!(target_arch = "x86_64"), "the kernels rung runs on x86_64 only");
    let objects = workspace.join("target/ebpf");
    for object in ["sluice-v4", "sluice-v6"] {
        ensure!(
            objects.join(object).exists(),
            "no {object} in {}: run `cargo xtask build-ebpf`",
            objects.display()
        );
    }
    say!("building the guest's programs (static, profile {PROFILE})");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(workspace)
        .args(["build", "--locked", "--quiet", "--profile", PROFILE, "--target", TARGET])
        .args(["--package", "sluice-tests", "--package", "sluice-gateway"])
        .args(["--bin", "sluice-guest", "--bin", "sluice-gateway", "--test", "packet"])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        .arg(workspace.join("target/guest"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("SLUICE_EBPF_DIR", &objects)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo, to build the guest's programs")?;
    if !output.status.success() {
        bail!("cargo build of the guest's programs: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let find =
        |name: &str| executable(&messages, name).with_context(|| format!("cargo built no executable {name}"));
    Ok(Binaries { guest: find("sluice-guest")?, gateway: find("sluice-gateway")?, packet: find("packet")? })
}

/// The executable of target `name` among cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[test]
fn executables_are_found_among_cargos_messages() {
    let messages = r#"{"reason":"compiler-artifact","target":{"name":"packet"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"packet"},"executable":"/t/packet-1"}
{"reason":"build-finished","success":true}"#;
    assert_eq!(executable(messages, "packet"), Some(PathBuf::from("/t/packet-1")));
    assert_eq!(executable(messages, "other"), None);
}
