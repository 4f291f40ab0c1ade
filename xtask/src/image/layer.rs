//! The one layer of an image: a tar archive in which nothing depends on when, where and by whom it was made.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use oci_spec::image::Sha256Digest;

use super::archive::digest;

/// A packed layer.
pub struct Layer {
    /// What is stored: the compressed archive.
    pub bytes: Vec<u8>,
    /// Digest of the archive before compression, by which the image's configuration names it.
    pub diff_id: Sha256Digest,
    /// Bytes of all files, as they lie on the node.
    pub unpacked: u64,
}

/// Something in the layer.
pub enum Entry<'a> {
    /// A program, anybody may run it.
    Program(&'a [u8]),
    /// A symbolic link.
    Link(&'a str),
}

/// Packs `entries`, each with its path below the root, and the folders above them.
///
/// # Errors
/// A path that does not fit into a tar header.
pub fn pack(entries: &[(&str, Entry<'_>)]) -> Result<Layer> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut unpacked = 0;
    let mut folders: Vec<&str> = Vec::new();
    for (path, entry) in entries {
        for (end, _) in path.match_indices('/') {
            let folder = &path[..=end];
            if !folders.contains(&folder) {
                folders.push(folder);
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                archive.append_data(&mut header, folder, [].as_slice())?;
            }
        }
        match entry {
            Entry::Program(bytes) => {
                unpacked += bytes.len() as u64;
                let mut header = header(tar::EntryType::Regular, 0o755, bytes.len() as u64);
                archive.append_data(&mut header, path, *bytes)
            }
            Entry::Link(target) => {
                archive.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)
            }
        }
        .with_context(|| format!("packing {path}"))?;
    }
    let plain = archive.into_inner()?;
    // The header's own fields for time and system are as empty as flate2 leaves them by default, but say so.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
    gzip.write_all(&plain)?;
    Ok(Layer { bytes: gzip.finish()?, diff_id: digest(&plain)?, unpacked })
}

/// The header of an entry: root's, of 1970. Whatever else it said would differ from machine to machine.
pub fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_layer_has_programs_links_and_the_folders_above_them() {
        let layer =
            pack(&[("tool", Entry::Program(b"12345")), ("usr/bin/other", Entry::Link("/tool"))]).unwrap();
        assert_eq!(layer.unpacked, 5);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(layer.bytes.as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(digest(&plain).unwrap(), layer.diff_id);
        let mut archive = tar::Archive::new(plain.as_slice());
        let found: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 0));
                let link = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
                format!(
                    "{:o} {}{}",
                    header.mode().unwrap(),
                    entry.path().unwrap().display(),
                    link.unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(found, ["755 tool", "755 usr/", "755 usr/bin/", "777 usr/bin/other -> /tool"]);
    }
}
