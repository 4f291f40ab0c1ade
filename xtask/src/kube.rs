//! The Kubernetes that tests run: etcd and Kubernetes' own programs, built from Go modules.
//!
//! `xtask/go/<module>/` names each version once, in its `go.mod`; its `go.sum` holds the build to the same source everywhere. What is built
//! stays in `target/kube/<module>-<version>-<key>/`, where the key covers all that the result depends on, and tests find it by the links in
//! `target/kube/bin/`. A program that is in the folder `KUBEBUILDER_ASSETS` is taken from there instead.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{binaries, packages, process, ui};

/// Names a folder with programs that need not be built.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Compilers at a time. Kubernetes' largest packages take a gigabyte each.
const PARALLEL: &str = "2";
/// Where Go's own installation guide puts it, which is on few users' `PATH`.
const USUAL_GO: &str = "/usr/local/go/bin/go";

/// A Go module of ours, whose requirements are the programs' source.
struct Module {
    /// Its folder in `xtask/go`.
    name: &'static str,
    /// The module that the programs come from.
    source: &'static str,
    /// The variable that the linker sets to the version.
    version_variable: Option<&'static str>,
}

/// A program to build.
pub struct Program {
    /// Its file name.
    name: &'static str,
    module: &'static Module,
    /// Its package.
    package: &'static str,
}

const ETCD: Module = Module { name: "etcd", source: "go.etcd.io/etcd/server/v3", version_variable: None };
const KUBERNETES: Module = Module {
    name: "kubernetes",
    source: "k8s.io/kubernetes",
    version_variable: Some("k8s.io/component-base/version.gitVersion"),
};
const MULTUS: Module =
    Module { name: "multus", source: "gopkg.in/k8snetworkplumbingwg/multus-cni.v4", version_variable: None };
const HELM_MODULE: Module = Module {
    name: "helm",
    source: "helm.sh/helm/v3",
    version_variable: Some("helm.sh/helm/v3/internal/version.version"),
};

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program { name, module: &KUBERNETES, package }
}

/// A control plane without nodes.
pub const CONTROL_PLANE: &[Program] = &[
    Program { name: "etcd", module: &ETCD, package: ETCD.source },
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
];

/// What a cluster with nodes takes beside [`CONTROL_PLANE`] and the packages of its group.
pub const NODES: &[Program] = &[
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    // The pods' pause container, and the backends.
    kubernetes("agnhost", "k8s.io/kubernetes/test/images/agnhost"),
    Program {
        name: "multus",
        module: &MULTUS,
        package: "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus",
    },
];

/// What installs the chart.
pub const HELM: &[Program] =
    &[Program { name: "helm", module: &HELM_MODULE, package: "helm.sh/helm/v3/cmd/helm" }];

/// Makes sure that the programs are where tests look for them. The first build takes minutes.
///
/// # Errors
/// If one is missing and cannot be built: the error says what that takes.
pub fn ensure(programs: &[Program]) -> Result<()> {
    let links = folder().join("bin");
    fs::create_dir_all(&links).with_context(|| format!("making {}", links.display()))?;
    for program in programs {
        let file = match asset(program.name) {
            Some(file) => file,
            None => built(program)?,
        };
        link(&file, &links.join(program.name))?;
        ui::ok(&format!("{:24} {}", program.name, process::shorten(&file)));
    }
    Ok(())
}

/// Where everything is kept.
fn folder() -> PathBuf {
    binaries::target().join("kube")
}

/// The program in the folder that the user names, if it is there.
fn asset(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(ASSETS)?);
    Some(folder.join(name)).filter(|file| file.is_file())
}

/// Makes `link` point to `file`, in one step: another run may be using it.
fn link(file: &Path, link: &Path) -> Result<()> {
    let what = || format!("linking {} to {}", link.display(), file.display());
    let file = file.canonicalize().with_context(what)?;
    if fs::read_link(link).is_ok_and(|there| there == file) {
        return Ok(());
    }
    let new = link.with_extension(std::process::id().to_string());
    symlink(&file, &new).with_context(what)?;
    fs::rename(&new, link).with_context(what)
}

/// The program, built if it is not there.
fn built(program: &Program) -> Result<PathBuf> {
    let module = process::root().join("xtask/go").join(program.module.name);
    let read = |name: &str| {
        fs::read_to_string(module.join(name)).with_context(|| format!("reading {}/{name}", module.display()))
    };
    let (requirements, sums) = (read("go.mod")?, read("go.sum")?);
    let version = required(&requirements, program.module.source)
        .with_context(|| format!("{}/go.mod requires no {}", module.display(), program.module.source))?;
    let go = find_go(&requirements).with_context(|| advice(program))?;
    let linker = linker_flags(program.module, version);
    let kept = format!("{}-{version}-", program.module.name);
    let folder = folder().join(kept + &key(&[&requirements, &sums, &linker, &go.version]));
    let file = folder.join(program.name);
    if !file.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let unfinished = folder.join(format!(".{}-{}", program.name, std::process::id()));
        let mut command = Command::new(&go.program);
        command
            .current_dir(&module)
            .envs([
                ("CGO_ENABLED", "0"),
                ("GOFLAGS", "-mod=readonly"),
                ("GOTOOLCHAIN", "local"),
                ("GOWORK", "off"),
            ])
            .args(["build", "-v", "-p", PARALLEL, "-trimpath", "-ldflags", &linker, "-o"])
            .args([unfinished.as_os_str(), program.package.as_ref()]);
        process::run_quietly(&format!("building {} {version}", program.name), &mut command)?;
        fs::rename(&unfinished, &file).with_context(|| format!("naming {}", file.display()))?;
        remove_older(program.module, &folder)?;
    }
    Ok(file)
}

fn linker_flags(module: &Module, version: &str) -> String {
    let stripped = "-s -w";
    match module.version_variable {
        Some(variable) => format!("{stripped} -X {variable}={version}"),
        None => stripped.to_owned(),
    }
}

/// Removes what was built of other versions of the module: each is hundreds of megabytes.
fn remove_older(module: &Module, newest: &Path) -> Result<()> {
    let folder = folder();
    let prefix = format!("{}-", module.name);
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?.flatten() {
        let path = entry.path();
        if path != newest && entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Twelve digits that change with any of `parts`.
fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The version of `module` that a `go.mod` requires.
fn required<'a>(requirements: &'a str, module: &str) -> Option<&'a str> {
    requirements.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|word| word.starts_with('v'))
    })
}

/// A Go compiler.
struct Go {
    program: PathBuf,
    /// As in `go1.26.8`.
    version: String,
}

/// The Go on this machine, if it is new enough for a module with these `requirements`.
fn find_go(requirements: &str) -> Result<Go> {
    let wanted = requirements
        .lines()
        .find_map(|line| line.strip_prefix("go "))
        .context("a go.mod without a `go` line")?;
    let found =
        packages::find_program("go").or_else(|| Some(USUAL_GO.into()).filter(|go: &PathBuf| go.is_file()));
    let Some(program) = found else { bail!("there is no go on the PATH, and no {USUAL_GO}") };
    let version = process::ask(Command::new(&program).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"))
        .with_context(|| format!("{} does not say its version", program.display()))?;
    if number(version.trim_start_matches("go")) < number(wanted) {
        bail!("{} is {version}, and Go {wanted} is the oldest that will do", program.display());
    }
    Ok(Go { program, version })
}

/// A Go version as numbers: `1.26.8` or `1.27rc1`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse().ok()
    });
    Some((parts.next()??, parts.next()??))
}

fn advice(program: &Program) -> String {
    format!(
        "{} is built from source, which takes Go. Distributions have older ones: unpack a release from https://go.dev/dl/ to /usr/local/go, \
         or name a folder that has the program by {ASSETS}",
        program.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_module_that_requires_it() {
        for program in CONTROL_PLANE.iter().chain(NODES).chain(HELM) {
            let module = process::root().join("xtask/go").join(program.module.name);
            let requirements = fs::read_to_string(module.join("go.mod")).unwrap();
            assert!(required(&requirements, program.module.source).is_some(), "{}", program.name);
            assert!(
                requirements.lines().any(|line| line.trim().trim_start_matches("tool ") == program.package),
                "{}",
                program.name
            );
        }
    }

    #[test]
    fn the_required_version_is_read() {
        let requirements = "tool a/b\n\nrequire a/b v1.2.3\n\nrequire (\n\ta/b/c v2.0.0 // indirect\n)\nreplace a/d => a/d v0.1.0\n";
        assert_eq!(required(requirements, "a/b"), Some("v1.2.3"));
        assert_eq!(required(requirements, "a/b/c"), Some("v2.0.0"));
        assert_eq!(required(requirements, "a/d"), None);
        assert_eq!(required(requirements, "a"), None);
    }

    #[test]
    fn versions_of_go_compare_as_numbers() {
        assert!(number("1.9") < number("1.26.0"));
        assert!(number("1.27rc1") > number("1.26.8"));
        assert_eq!(number("1.26.8"), number("1.26.0"));
        assert_eq!(number("devel"), None);
    }

    #[test]
    fn the_key_changes_with_every_part() {
        let base = key(&["a", "b"]);
        assert_eq!(base.len(), 12);
        for other in [key(&["ab", ""]), key(&["a", "c"]), key(&["b", "a"])] {
            assert_ne!(base, other);
        }
    }
}
