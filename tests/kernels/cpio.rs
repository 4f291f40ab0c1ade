//! Writes the archive that the kernel unpacks as its first root file system: cpio, "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel's sources).
//!
//! It is left uncompressed: unpacking under emulation would cost more than reading.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

/// Mode bits of a directory, `rwxr-xr-x`.
const DIRECTORY: u32 = 0o040_755;
/// Mode bits of an executable regular file, `rwxr-xr-x`.
const FILE: u32 = 0o100_755;

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Archive {
    /// Adds a directory and those above it, unless they are there. `path` has no leading slash.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(path)?;
        self.entry(path, DIRECTORY, &[])
    }

    /// Adds an executable file and the directories above it, unless they are there. `path` has no leading slash. The
    /// format limits `content` to 4 GiB.
    pub fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, FILE, content)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        path.match_indices('/')
            .filter_map(|(end, _)| path.get(..end))
            .try_for_each(|parent| self.entry(parent, DIRECTORY, &[]))
    }

    /// The finished archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        if !self.paths.insert(path.to_owned()) {
            return Ok(());
        }
        let size = u32::try_from(content.len()).with_context(|| format!("{path} is larger than 4 GiB"))?;
        let name = u32::try_from(path.len() + 1).context("a path is longer than 4 GiB")?;
        let inode = u32::try_from(self.paths.len()).context("more files than a number holds")?;
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
        let header = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    /// Headers and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[test]
fn an_entry_has_the_layout_of_the_format() {
    let mut archive = Archive::default();
    archive.file("init", b"hello").unwrap();
    let bytes = archive.finish().unwrap();
    assert_eq!(&bytes[..6], b"070701");
    assert_eq!(&bytes[54..62], b"00000005", "the size is the eighth field of eight digits");
    assert_eq!(&bytes[110..115], b"init\0", "the header is 110 bytes long");
    assert_eq!(&bytes[116..121], b"hello", "the content begins at a multiple of four");
    assert_eq!(&bytes[124..130], b"070701");
    assert_eq!(bytes.len() % 4, 0);
}

#[test]
fn parents_come_first_and_once() {
    let mut archive = Archive::default();
    archive.file("usr/lib/one", b"").unwrap();
    archive.file("usr/lib/two", b"").unwrap();
    let text = String::from_utf8_lossy(&archive.finish().unwrap()).into_owned();
    let found: Vec<_> =
        text.split(['\0']).filter_map(|part| part.split_at_checked(110)).map(|(_, path)| path).collect();
    assert_eq!(found, ["usr", "usr/lib", "usr/lib/one", "usr/lib/two", "TRAILER!!!"]);
}
