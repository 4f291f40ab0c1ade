//! The bill of materials of an image: CycloneDX 1.6, JSON (ECMA-424).
//!
//! It lists what cargo linked into the program and into the BPF programs inside it, as cargo said while building, and what the
//! compiler and the linker put in by themselves. Like the image it says nothing of when and where it was made.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};
use serde_json::{Value, json};

use super::recipe::Image;
use crate::process;

/// Of the document.
pub const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// What is in every program besides the packages that cargo knows.
pub struct Toolchain {
    components: Vec<Value>,
}

impl Toolchain {
    /// Asks the compilers that build here.
    ///
    /// # Errors
    /// If one does not say its version.
    pub fn ask() -> Result<Self> {
        let rust = process::ask(Command::new("rustc").current_dir(process::root()).arg("--version"));
        let glibc = process::ask(Command::new("getconf").arg("GNU_LIBC_VERSION"));
        let gcc = process::ask(Command::new("cc").arg("-dumpfullversion"));
        let parts = [
            ("rust-std", rust, 1, "MIT OR Apache-2.0"),
            ("glibc", glibc, 1, "LGPL-2.1-or-later"),
            ("libgcc", gcc, 0, "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ];
        let components = parts
            .into_iter()
            .map(|(name, said, word, license)| {
                let version = said
                    .as_deref()
                    .and_then(|said| said.split_whitespace().nth(word))
                    .with_context(|| format!("what is the version of {name}?"))?;
                Ok(component(name, version, license, &format!("pkg:generic/{name}@{version}")))
            })
            .collect::<Result<_>>()?;
        Ok(Self { components })
    }
}

/// What cargo knows of every package of `Cargo.lock`.
///
/// # Errors
/// If cargo does not say.
pub fn packages() -> Result<Metadata> {
    let said = process::ask(process::cargo().args(["metadata", "--format-version", "1", "--locked"]))
        .context("asking cargo metadata")?;
    Ok(MetadataCommand::parse(said)?)
}

/// Writes the document.
///
/// # Errors
/// Never: the document is made of text only.
pub fn write(
    image: Image,
    linked: &BTreeSet<PackageId>,
    known: &Metadata,
    toolchain: &Toolchain,
) -> Result<Vec<u8>> {
    let mut packages: Vec<&Package> = known
        .packages
        .iter()
        .filter(|package| linked.contains(&package.id) && package.name != image.name())
        .collect();
    packages.sort_by_key(|package| (&package.name, &package.version));
    let components: Vec<Value> = packages
        .into_iter()
        .map(|package| {
            let version = package.version.to_string();
            let url = format!("pkg:cargo/{}@{version}", package.name);
            // The slash is how licences were written before SPDX had expressions.
            let license = package.license.as_deref().unwrap_or("NOASSERTION").replace('/', " OR ");
            component(&package.name, &version, &license, &url)
        })
        .chain(toolchain.components.iter().cloned())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let of = format!("pkg:cargo/{}@{version}", image.name());
    let references: Vec<&Value> = components.iter().map(|component| &component["bom-ref"]).collect();
    let mut subject = component(image.name(), version, env!("CARGO_PKG_LICENSE"), &of);
    subject["type"] = "application".into();
    Ok(serde_json::to_vec_pretty(&json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": subject },
        // Flat: which package brought which depends on features, and cargo does not say that of one build.
        "dependencies": [{ "ref": of, "dependsOn": references }],
        "components": components,
    }))?)
}

fn component(name: &str, version: &str, license: &str, url: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
        "licenses": [{ "expression": license }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_linked_is_listed_and_nothing_else_of_the_lock_file() {
        let known = packages().unwrap();
        let linked = ["sluice-controller", "anyhow", "serde_json"].map(|name| {
            let package = known.packages.iter().find(|package| package.name == name).unwrap();
            package.id.clone()
        });
        let toolchain = Toolchain::ask().unwrap();
        let text = write(Image::Controller, &linked.into(), &known, &toolchain).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        let components = document["components"].as_array().unwrap();
        let names: Vec<&str> =
            components.iter().map(|component| component["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["anyhow", "serde_json", "rust-std", "glibc", "libgcc"]);
        let subject = &document["metadata"]["component"];
        assert_eq!(
            (&subject["name"], &subject["type"]),
            (&json!("sluice-controller"), &json!("application"))
        );
        assert_eq!(document["dependencies"][0]["ref"], subject["bom-ref"]);
        for component in components {
            let field = |name: &str| component[name].as_str().unwrap();
            assert_eq!(field("bom-ref"), field("purl"));
            assert!(field("purl").ends_with(&format!("/{}@{}", field("name"), field("version"))));
            assert!(!component["licenses"][0]["expression"].as_str().unwrap().contains('/'));
        }
    }
}
