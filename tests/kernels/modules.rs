//! Kernel modules: which files a module needs, in the order of loading.
//!
//! The packages come without an index (`depmod` makes it at installation), so each module is asked itself: it names what
//! it depends on in its `.modinfo` section.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A module, uncompressed.
pub struct Module {
    /// Name with underscores, as `lsmod` shows it.
    pub name: String,
    /// The ELF object, as `finit_module` takes it.
    pub object: Vec<u8>,
}

/// Reads `wanted` and all they depend on from the folder `tree`, dependencies first.
pub fn collect(tree: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let files = index(tree)?;
    let mut objects = HashMap::new();
    let mut dependencies = BTreeMap::new();
    let mut open: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    while let Some(name) = open.pop() {
        if dependencies.contains_key(&name) {
            continue;
        }
        let file = files.get(&name).with_context(|| format!("no module {name} in {}", tree.display()))?;
        let object = read(file)?;
        let needs = dependencies_of(&object);
        open.extend(needs.iter().cloned());
        dependencies.insert(name.clone(), needs);
        objects.insert(name, object);
    }
    load_order(&dependencies)?
        .into_iter()
        .map(|name| {
            let object = objects.remove(&name).with_context(|| format!("module {name} was not read"))?;
            Ok(Module { name, object })
        })
        .collect()
}

/// Orders modules so that each comes after those it depends on.
fn load_order(dependencies: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    while order.len() < dependencies.len() {
        let ready: Vec<_> = dependencies
            .iter()
            .filter(|(name, needs)| !order.contains(name) && needs.iter().all(|need| order.contains(need)))
            .map(|(name, _)| name.clone())
            .collect();
        ensure!(!ready.is_empty(), "modules depend on each other in a circle, or on one that was not read");
        order.extend(ready);
    }
    Ok(order)
}

/// The names in the `depends=` field of a module's `.modinfo`, a list of strings that end in NUL.
fn dependencies_of(object: &[u8]) -> Vec<String> {
    object
        .split(|byte| *byte == 0)
        .find_map(|string| string.strip_prefix(b"depends="))
        .map(|list| {
            String::from_utf8_lossy(list).split(',').filter(|name| !name.is_empty()).map(normal).collect()
        })
        .unwrap_or_default()
}

/// Every module file below `tree`, by name.
fn index(tree: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut files = HashMap::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().with_context(|| format!("reading {name}"))?.is_dir() {
                folders.push(entry.path());
            } else if let Some((stem, "" | ".xz")) = name.split_once(".ko") {
                files.insert(normal(stem), entry.path());
            }
        }
    }
    Ok(files)
}

/// The name that the kernel gives to a module file.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads a module file, through `xz` where it is compressed.
fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("reading {}", file.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()
        .context("starting xz (package xz-utils), to decompress kernel modules")?;
    if !output.status.success() {
        bail!("xz on {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_section() {
        let object = b"\x7fELF\0\0license=GPL\0depends=llc,stp-x\0name=bridge\0";
        assert_eq!(dependencies_of(object), ["llc", "stp_x"]);
        assert!(dependencies_of(b"\0depends=\0name=veth\0").is_empty());
        assert!(dependencies_of(b"\0notdepends=llc\0").is_empty());
    }

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut dependencies = BTreeMap::from([
            ("bridge".to_owned(), list(&["stp", "llc"])),
            ("llc".to_owned(), list(&[])),
            ("stp".to_owned(), list(&["llc"])),
        ]);
        assert_eq!(load_order(&dependencies).unwrap(), ["llc", "stp", "bridge"]);
        dependencies.insert("llc".to_owned(), list(&["bridge"]));
        assert!(load_order(&dependencies).is_err());
    }
}
