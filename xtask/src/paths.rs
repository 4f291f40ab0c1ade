//! The paths of the machine that builds: none may be in what is built, or each machine builds something else.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{binaries, process};

/// Folders whose files' names rustc writes into programs (where a panic comes from, say), and what it writes instead.
pub struct Paths(Vec<(PathBuf, String)>);

impl Paths {
    /// Those of a build by this rustc.
    pub fn of(rustc: &Path) -> Self {
        let mut paths = vec![
            (process::root().to_owned(), "/sluice".to_owned()),
            (binaries::target(), "/sluice/target".to_owned()),
        ];
        if let Some(cargo) = cargo_home() {
            // Each registry has a folder of its own, named by its address: a mirror has the same source.
            let registries = fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten();
            paths.extend(registries.map(|registry| (registry.path(), "/cargo/registry".to_owned())));
            paths.push((cargo, "/cargo".to_owned()));
        }
        paths.extend(library(rustc));
        // Of those that match, rustc takes the last: the longest.
        paths.sort_by_key(|(path, _)| (path.components().count(), path.clone()));
        Self(paths)
    }

    /// For rustc.
    pub fn flags(&self) -> Vec<String> {
        self.0.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display())).collect()
    }

    /// Makes sure that a program has none of them.
    ///
    /// # Errors
    /// If it has one: the error has the text that begins with it.
    pub fn check(&self, program: &[u8]) -> Result<()> {
        let program = String::from_utf8_lossy(program);
        for (path, name) in &self.0 {
            let its_own = Path::new(name).starts_with(path);
            if let Some(at) = program.find(&format!("{}/", path.display()))
                && !its_own
            {
                let text: String =
                    program[at..].chars().take(200).take_while(char::is_ascii_graphic).collect();
                bail!("a path of this machine is in it: {text}");
            }
        }
        Ok(())
    }
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
}

/// The source of Rust's own library. Where it is installed, rustc names its files as they are there; elsewhere as here.
fn library(rustc: &Path) -> Option<(PathBuf, String)> {
    let ask =
        |argument: &[&str]| process::ask(Command::new(rustc).current_dir(process::root()).args(argument));
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
    let said = ask(&["-vV"])?;
    let commit = said.lines().find_map(|line| line.strip_prefix("commit-hash: "))?;
    Some((sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{commit}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_path_of_the_machine_is_found() {
        let paths = Paths(vec![
            ("/home/me/sluice".into(), "/sluice".to_owned()),
            ("/cargo".into(), "/cargo".to_owned()),
        ]);
        let error = paths.check(b"\x01/sluice/a.rs\0 /home/me/sluice/b.rs\0").unwrap_err();
        assert!(error.to_string().ends_with(": /home/me/sluice/b.rs"), "{error}");
        paths.check(b"/sluice/a.rs /home/me/sluices/c.rs /cargo/registry/d.rs").unwrap();
    }

    /// What rustc writes of a small file, built with `flags` by a rustc that has the source of Rust's own library, as where people develop.
    fn built(rustc: &Path, source: &Path, flags: &[String]) -> Vec<u8> {
        let object = source.with_extension("o");
        let status = Command::new(rustc)
            .args(["--crate-type=lib", "--edition=2024", "--emit=obj"])
            .args(flags)
            .arg(source)
            .arg("-o")
            .arg(&object)
            .status();
        assert!(status.unwrap().success());
        fs::read(object).unwrap()
    }

    #[test]
    fn rustc_writes_names_in_place_of_paths() {
        let (folder, ours) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir_in(binaries::target()).unwrap());
        let of = |name: &str| folder.path().join(name);
        let (libraries, own) = (of("lib/rustlib"), of("lib/rustlib/src/rust/library/std/src"));
        fs::create_dir_all(&own).unwrap();
        // That it is there is all that rustc asks.
        fs::write(own.join("lib.rs"), "").unwrap();
        let real = process::ask(Command::new("rustc").args(["--print", "sysroot"])).unwrap();
        for entry in fs::read_dir(Path::new(&real).join("lib/rustlib")).unwrap().flatten() {
            if entry.file_name() != "src" {
                symlink(entry.path(), libraries.join(entry.file_name())).unwrap();
            }
        }
        let rustc = of("rustc");
        fs::write(&rustc, format!("#!/bin/sh\nexec rustc --sysroot {} \"$@\"\n", folder.path().display()))
            .unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        let source = ours.path().join("source.rs");
        let text = "pub fn first(all: &[u8]) -> u8 { all[0] }\npub fn chunk(all: &[u8]) -> Option<&[u8]> { all.chunks(all.len()).next() }\n";
        fs::write(&source, text).unwrap();

        let paths = Paths::of(&rustc);
        paths.check(&built(&rustc, &source, &paths.flags())).unwrap();
        let all = paths.flags();
        for left_out in ["=/sluice", "=/rustc/"] {
            let flags: Vec<String> = all.iter().filter(|flag| !flag.contains(left_out)).cloned().collect();
            assert!(flags.len() < all.len(), "{all:?}");
            assert!(paths.check(&built(&rustc, &source, &flags)).is_err(), "without {left_out}");
        }
    }
}
