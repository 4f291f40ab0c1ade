//! Programs of this machine inside a guest: each with the libraries that its loader says it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cpio::Archive;

/// Where administrators' programs are; not every `PATH` has all of them.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Adds `tool` to the archive's `bin` and its libraries where they are on this machine.
pub fn add(archive: &mut Archive, tool: &str) -> Result<()> {
    let program = FOLDERS
        .map(|folder| Path::new(folder).join(tool))
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{tool} is not on this machine: install iproute2"))?;
    copy(archive, &program, &format!("bin/{tool}"))?;
    let output =
        Command::new("ldd").arg(&program).output().context("starting ldd, to find a program's libraries")?;
    ensure!(output.status.success(), "ldd {}: {}", program.display(), output.status);
    libraries(&String::from_utf8_lossy(&output.stdout)).into_iter().try_for_each(|library| {
        let path = library.strip_prefix("/").unwrap_or(&library).display().to_string();
        copy(archive, &library, &path)
    })
}

fn copy(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    archive.file(to, &content)
}

/// The files in ldd's output: libraries as `name => /path (address)`, the loader as `/path (address)`.
fn libraries(output: &str) -> Vec<PathBuf> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[test]
fn libraries_and_the_loader_are_found() {
    let output =
        "\tlinux-vdso.so.1 (0x7ff)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x7f0)\n\t/lib64/ld.so.2 (0x7f1)\n";
    assert_eq!(libraries(output), [Path::new("/lib/x/libm.so.6"), Path::new("/lib64/ld.so.2")]);
}
