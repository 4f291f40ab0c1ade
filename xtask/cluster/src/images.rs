//! The images of what is not Sluice's: upstream's test program `agnhost`, as the pods' pause container and as a backend.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};
use tempfile::NamedTempFile;

use crate::programs;

/// The image of the container that holds a pod's namespaces.
pub const PAUSE: &str = "sluice.test/pause:1";
/// A program that does what its arguments say: `netexec --http-port=80` answers HTTP and UDP.
pub const AGNHOST: &str = "sluice.test/agnhost:1";

/// A stand-in for the web server of examples, so that these can be used as they are.
const NGINX: &str = "docker.io/library/nginx:alpine";

/// The images: name, and what is started.
const IMAGES: [(&str, &[&str]); 3] = [
    (PAUSE, &["/agnhost", "pause"]),
    (AGNHOST, &["/agnhost"]),
    (NGINX, &["/agnhost", "netexec", "--http-port=80"]),
];

/// The archive with all, written beside the program if it is not there.
///
/// # Errors
/// The program has not been built, or its folder is not writable.
pub fn archive() -> Result<PathBuf> {
    let program = programs::kubernetes("agnhost")?;
    // Another list of images makes another archive.
    let key: String =
        digest(format!("{IMAGES:?}").as_bytes()).chars().skip("sha256:".len()).take(8).collect();
    let archive = program.with_extension(format!("{key}.tar"));
    if !archive.exists() {
        let content = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        write_whole(&archive, content).with_context(|| format!("writing {}", archive.display()))?;
    }
    Ok(archive)
}

/// Writes the archive so that it is there whole or not at all. Others may be writing the same, also another thread of this
/// process: each has a file of its own.
fn write_whole(archive: &Path, program: Vec<u8>) -> Result<()> {
    let folder = archive.parent().context("a file without a folder")?;
    let mut unfinished = NamedTempFile::new_in(folder)?;
    let mut file = BufWriter::new(&mut unfinished);
    write(&mut file, program)?;
    file.flush()?;
    drop(file);
    unfinished.persist(archive)?;
    Ok(())
}

/// Writes an OCI image layout: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
fn write(file: impl Write, program: Vec<u8>) -> Result<()> {
    let mut layer = Builder::new(Vec::new());
    append(&mut layer, "agnhost", &program)?;
    let layer = layer.into_inner().context("a layer")?;
    let content = digest(&layer);

    let mut archive = Builder::new(file);
    let mut images = Vec::new();
    let layer = blob(&mut archive, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    for (name, entrypoint) in IMAGES {
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": { "Entrypoint": entrypoint },
            "rootfs": { "type": "layers", "diff_ids": [content] },
        });
        let config = blob(&mut archive, "application/vnd.oci.image.config.v1+json", &bytes(&config))?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let mut image = blob(&mut archive, kind, &bytes(&manifest))?;
        image["annotations"] = json!({ "io.containerd.image.name": name });
        images.push(image);
    }
    append(&mut archive, "index.json", &bytes(&json!({ "schemaVersion": 2, "manifests": images })))?;
    append(&mut archive, "oci-layout", &bytes(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    archive.finish().context("an archive")
}

/// Appends a blob and returns its descriptor.
fn blob(archive: &mut Builder<impl Write>, kind: &str, content: &[u8]) -> Result<Value> {
    let digest = digest(content);
    append(archive, &format!("blobs/{}", digest.replace(':', "/")), content)?;
    Ok(json!({ "mediaType": kind, "digest": digest, "size": content.len() }))
}

fn append(archive: &mut Builder<impl Write>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, path, content).with_context(|| format!("packing {path}"))
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn several_may_write_the_same_archive_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("images.tar");
        thread::scope(|scope| {
            let writers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| write_whole(&archive, vec![7; 1 << 20]))).collect();
            for writer in writers {
                writer.join().unwrap().unwrap();
            }
        });
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files, [archive], "nothing but the archive is left");
    }
}
