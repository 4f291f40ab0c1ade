//! Which compiler builds the BPF programs.
//!
//! `core` has to be built for the BPF target, which takes a rustc with its source and unstable options, and bpf-linker
//! reads that rustc's bitcode only if both have the same major version of LLVM.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};

use crate::{
    packages::{self, BPF_CLIPPY, BPF_TOOLCHAIN, LLVM_22, Package},
    process, tools, ui,
};

/// Names the rustc to use, whatever else there is.
const EXPLICIT: &str = "SLUICE_BPF_RUSTC";
/// Where Debian's rustc is.
const DISTRIBUTION: &str = "/usr/bin/rustc";

/// What makes Debian 12 able to build them.
const DEBIAN: [&[Package]; 2] = [BPF_TOOLCHAIN, LLVM_22];

/// Where a compiler comes from, in the order of preference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The environment names it.
    Explicit,
    /// A nightly toolchain of rustup.
    Nightly,
    /// A package of the distribution.
    Distribution,
}

/// A rustc, as it describes itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiler {
    /// Where it comes from.
    pub origin: Origin,
    /// The program.
    pub rustc: PathBuf,
    /// Its version, as in `1.96.0`.
    pub release: String,
    /// The major version of its LLVM.
    pub llvm: u32,
    /// Is the source of its `core` there?
    pub has_source: bool,
}

impl Compiler {
    /// The cargo that fits: a nightly brings its own, which knows the layout of its own source.
    pub fn cargo(&self) -> Command {
        match self.origin {
            Origin::Nightly => process::cargo_at(&self.rustc.with_file_name("cargo")),
            Origin::Explicit | Origin::Distribution => process::cargo(),
        }
    }

    /// The `cargo-clippy` beside this rustc, installed if that is possible.
    pub fn clippy(&self) -> Result<PathBuf> {
        let clippy = self.rustc.with_file_name("cargo-clippy");
        if !clippy.exists() {
            match self.origin {
                Origin::Distribution => packages::ensure(BPF_CLIPPY)?,
                Origin::Nightly => bail!(
                    "no clippy beside the BPF compiler: rustup component add clippy --toolchain nightly"
                ),
                Origin::Explicit => {
                    bail!("no cargo-clippy beside {}, which {EXPLICIT} names", self.rustc.display())
                }
            }
        }
        Ok(clippy)
    }

    fn describe(&self) -> String {
        let origin = match self.origin {
            Origin::Explicit => EXPLICIT,
            Origin::Nightly => "rustup",
            Origin::Distribution => "distribution",
        };
        format!("rustc {} with LLVM {} ({origin}: {})", self.release, self.llvm, self.rustc.display())
    }
}

/// Finds the compiler for the BPF programs, installing Debian's where there is none.
///
/// # Errors
/// If there is none and none can be installed: the error says what each one lacks and which commands help.
pub fn ensure() -> Result<Compiler> {
    static FOUND: OnceLock<Compiler> = OnceLock::new();
    if let Some(compiler) = FOUND.get() {
        return Ok(compiler.clone());
    }
    let compiler = find()?;
    Ok(FOUND.get_or_init(|| compiler).clone())
}

fn find() -> Result<Compiler> {
    let mut found = choose(candidates()?, tools::llvm_is_there);
    if let Err(reasons) = &found
        && std::env::var_os(EXPLICIT).is_none()
        && packages::has_apt()
        && DEBIAN.iter().copied().flatten().any(|package| !package.is_there())
    {
        for packages in DEBIAN {
            packages::ensure(packages).with_context(|| advice(reasons))?;
        }
        found = choose(candidates()?, tools::llvm_is_there);
    }
    match found {
        Ok((compiler, passed_over)) => {
            for reason in passed_over {
                ui::note(&reason);
            }
            ui::ok(&compiler.describe());
            Ok(compiler)
        }
        Err(reasons) => bail!(advice(&reasons)),
    }
}

/// What is wrong with every compiler that was found, and how to get one that is right.
fn advice(reasons: &[String]) -> String {
    let found = if reasons.is_empty() {
        "\n  (none found but stable Rust, which cannot build `core`)".to_owned()
    } else {
        reasons.iter().map(|reason| format!("\n  {reason}")).collect()
    };
    let packages: Vec<&str> = DEBIAN.iter().copied().flatten().map(|package| package.name).collect();
    format!(
        "no compiler here can build the BPF programs:{found}\n\nOn Debian 12, as root:\n\n  apt-get install {}\n\nElsewhere:\n\n  \
         rustup toolchain install nightly --component rust-src,clippy\n\nwith the same LLVM ({}) and its headers; LLVM_PREFIX \
         names its folder",
        packages.join(" "),
        tools::linkable_llvm(),
    )
}

/// The first usable compiler, and why those before it are not; or why none is.
fn choose(
    candidates: Vec<Compiler>,
    llvm_is_there: impl Fn(u32) -> bool,
) -> Result<(Compiler, Vec<String>), Vec<String>> {
    let mut reasons = Vec::new();
    for compiler in candidates {
        let what = compiler.describe();
        if !compiler.has_source {
            reasons.push(format!("{what} has no rust-src"));
        } else if !tools::LINKABLE_LLVM.contains(&compiler.llvm) {
            reasons.push(format!(
                "{what}: bpf-linker {} reads only LLVM {:?}",
                tools::LINKER_VERSION,
                tools::LINKABLE_LLVM
            ));
        } else if !llvm_is_there(compiler.llvm) {
            reasons.push(format!(
                "{what}: bpf-linker needs the same LLVM, and there is no llvm-{}-dev",
                compiler.llvm
            ));
        } else {
            return Ok((compiler, reasons));
        }
        if compiler.origin == Origin::Explicit {
            break;
        }
    }
    Err(reasons)
}

/// Every compiler worth a look, the preferred one first.
fn candidates() -> Result<Vec<Compiler>> {
    let mut found = Vec::new();
    if let Some(path) = std::env::var_os(EXPLICIT) {
        let path = PathBuf::from(path);
        match probe(Origin::Explicit, &path) {
            Some(compiler) => found.push(compiler),
            None => bail!("{EXPLICIT} names {}, which is no rustc that runs", path.display()),
        }
    }
    let toolchains = process::ask(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    for name in toolchains
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|n| n.starts_with("nightly"))
    {
        if let Some(rustc) =
            process::ask(Command::new("rustup").args(["which", "rustc", "--toolchain", name]))
        {
            found.extend(probe(Origin::Nightly, Path::new(&rustc)));
        }
    }
    found.extend(probe(Origin::Distribution, Path::new(DISTRIBUTION)));
    Ok(found)
}

fn probe(origin: Origin, rustc: &Path) -> Option<Compiler> {
    let (release, llvm) = parse_version(&process::ask(Command::new(rustc).arg("-vV"))?)?;
    let sysroot = PathBuf::from(process::ask(Command::new(rustc).args(["--print", "sysroot"]))?);
    let has_source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    Some(Compiler { origin, rustc: rustc.to_owned(), release, llvm, has_source })
}

/// The release and the major version of LLVM from `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((field("release:")?.to_owned(), llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(origin: Origin, llvm: u32, has_source: bool) -> Compiler {
        Compiler { origin, rustc: "/x/bin/rustc".into(), release: "1.97.0".into(), llvm, has_source }
    }

    #[test]
    fn versions_are_read() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4";
        assert_eq!(parse_version(text), Some(("1.97.0-nightly".to_owned(), 22)));
        assert_eq!(parse_version("rustc 1.97.0"), None);
    }

    #[test]
    fn the_first_usable_compiler_wins() {
        let all = vec![compiler(Origin::Nightly, 22, true), compiler(Origin::Distribution, 22, true)];
        let (chosen, passed_over) = choose(all, |_| true).unwrap();
        assert_eq!(chosen.origin, Origin::Nightly);
        assert!(passed_over.is_empty());
    }

    #[test]
    fn a_nightly_is_passed_over_with_its_reason() {
        for (nightly, reason) in [
            (compiler(Origin::Nightly, 22, false), "no rust-src"),
            (compiler(Origin::Nightly, 99, true), "reads only LLVM"),
            (compiler(Origin::Nightly, 23, true), "no llvm-23-dev"),
        ] {
            let all = vec![nightly, compiler(Origin::Distribution, 22, true)];
            let (chosen, passed_over) = choose(all, |llvm| llvm == 22).unwrap();
            assert_eq!(chosen.origin, Origin::Distribution);
            assert!(passed_over[0].contains(reason), "{passed_over:?}");
        }
    }

    #[test]
    fn an_explicit_compiler_is_never_replaced() {
        let all = vec![compiler(Origin::Explicit, 22, false), compiler(Origin::Distribution, 22, true)];
        assert_eq!(choose(all, |_| true).unwrap_err().len(), 1);
    }
}
