//! Where the BPF objects are that are not embedded into the gateway.

use std::path::PathBuf;

/// The path of an object: in `$SLUICE_EBPF_DIR`, else where `cargo xtask build-ebpf` puts it.
pub fn path(name: &str) -> PathBuf {
    let folder = std::env::var_os("SLUICE_EBPF_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf")), PathBuf::from);
    folder.join(name)
}
