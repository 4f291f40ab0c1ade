//! Replays the committed inputs of the fuzz targets, so that neither they nor the targets rot.

#[path = "../fuzz/src/config.rs"]
mod config;
#[path = "../fuzz/src/packet.rs"]
mod packet;

/// Calls `check` with every input of `target`.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // The last name printed is that of the input that fails.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "{folder} is empty");
}

#[test]
fn gateway_files() {
    replay("config", config::check);
}

#[test]
fn frames() {
    replay("packet", packet::check);
}
