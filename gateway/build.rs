//! Embeds the BPF objects into the loader.
//!
//! They come from `$SLUICE_EBPF_DIR`, else from `target/ebpf/` of the workspace, where `cargo xtask build-ebpf` writes them.
//! Without them the loader still compiles, so that everything that needs no packet path can be built with plain `cargo`; it
//! then refuses to run.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=SLUICE_EBPF_DIR");
    if env::var_os("CARGO_FEATURE_LOADER").is_none() {
        return Ok(());
    }
    let objects = match env::var_os("SLUICE_EBPF_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => default_dir()?,
    };
    println!("cargo:rerun-if-changed={}", objects.display());
    let source = [("V4", "sluice-v4"), ("V6", "sluice-v6")]
        .map(|(name, file)| constant(name, &objects.join(file)))
        .concat();
    let out = PathBuf::from(env::var("OUT_DIR")?).join("objects.rs");
    fs::write(out, source)?;
    Ok(())
}

/// `target/ebpf` beside the workspace's manifest. It is made when missing: Cargo runs a build script again each time when a
/// path that it watches does not exist.
fn default_dir() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the manifest has no parent directory")?;
    let dir = workspace.join("target").join("ebpf");
    // A read-only source tree cannot hold objects either.
    let _ = fs::create_dir_all(&dir);
    Ok(dir)
}

/// The Rust source of one embedded object, aligned as the ELF reader needs it; empty if there is no such file.
fn constant(name: &str, object: &Path) -> String {
    if object.is_file() {
        println!("cargo:rerun-if-changed={}", object.display());
        format!("const {name}: &[u8] = aya::include_bytes_aligned!({:?});\n", object.display().to_string())
    } else {
        format!("const {name}: &[u8] = &[];\n")
    }
}
