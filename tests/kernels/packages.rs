//! Debian's kernel packages: found through apt, unpacked, never installed.
//!
//! Each release has its own apt source list and state below `target/kernels/<release>/apt`, so that the machine's own
//! package lists are neither needed nor touched. The mirror is the one that the machine's apt already uses. What is
//! unpacked stays there by version, and later runs need no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::say;

/// Metapackage whose first dependency is the release's newest kernel. Versions by name vanish from mirrors.
const METAPACKAGE: &str = "linux-image-cloud-amd64";
/// Debian's signing keys, from the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names the mirror (`http://host/debian`) on machines whose apt has no Debian sources.
const MIRROR_SETTING: &str = "SLUICE_DEBIAN_MIRROR";

/// An unpacked kernel.
pub struct Kernel {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// The kernel of a Debian release (by codename), fetched into `cache` unless it is there. Delete
/// `<cache>/<codename>` to get the newest again.
pub fn kernel(cache: &Path, codename: &str) -> Result<Kernel> {
    let folder = cache.join(codename);
    let unpacked = folder.join("unpacked");
    let tree = match newest(&unpacked)? {
        Some(tree) => tree,
        None => fetch(&folder, &unpacked, codename)
            .with_context(|| format!("fetching the kernel of {codename}"))?,
    };
    locate(&tree)
}

/// The last folder in `unpacked` by name; none, if nothing was unpacked yet.
fn newest(unpacked: &Path) -> Result<Option<PathBuf>> {
    if !unpacked.exists() {
        return Ok(None);
    }
    let entries = fs::read_dir(unpacked).with_context(|| format!("reading {}", unpacked.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).max())
}

/// Finds the parts of an unpacked package.
fn locate(tree: &Path) -> Result<Kernel> {
    let boot = tree.join("boot");
    let release = fs::read_dir(&boot)
        .with_context(|| format!("reading {}", boot.display()))?
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
        .with_context(|| format!("no vmlinuz in {}", boot.display()))?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|parent| tree.join(parent).join(&release))
        .into_iter()
        .find(|folder| folder.is_dir())
        .with_context(|| format!("no modules of {release} in {}", tree.display()))?;
    Ok(Kernel { image: boot.join(format!("vmlinuz-{release}")), modules, release })
}

fn fetch(folder: &Path, unpacked: &Path, codename: &str) -> Result<PathBuf> {
    say!("fetching the kernel of Debian {codename} into {}", folder.display());
    let apt = Apt::prepare(&folder.join("apt"), codename)?;
    apt.run("apt-get", &["update"])?;
    let package = first_dependency(&apt.run("apt-cache", &["show", METAPACKAGE])?)
        .with_context(|| format!("{METAPACKAGE} of {codename} names no kernel"))?;
    say!("downloading {package}");
    apt.run("apt-get", &["download", &package])?;
    let archive = fs::read_dir(&apt.folder)
        .with_context(|| format!("reading {}", apt.folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no package in {}", apt.folder.display()))?;
    let partial = folder.join("partial");
    run(Command::new("dpkg").arg("--extract").arg(&archive).arg(&partial))?;
    // Renamed only when complete, so that an interrupted run is repeated and not trusted.
    fs::create_dir_all(unpacked).with_context(|| format!("making {}", unpacked.display()))?;
    let tree = unpacked.join(&package);
    fs::rename(&partial, &tree).with_context(|| format!("moving {package} to {}", tree.display()))?;
    fs::remove_dir_all(&apt.folder).with_context(|| format!("removing {}", apt.folder.display()))?;
    Ok(tree)
}

/// apt with sources and state of its own.
struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn prepare(folder: &Path, codename: &str) -> Result<Self> {
        ensure!(Path::new(KEYRING).exists(), "{KEYRING} is missing: install debian-archive-keyring");
        for path in [folder.to_owned(), folder.with_file_name("partial")] {
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("state/status", "")?;
        write("sources.list", &sources(&mirrors()?, codename))?;
        let at = |part: &str| folder.join(part).display().to_string();
        let options = vec![
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("state/status")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            // The lists of a release that is no longer supported are old on purpose.
            "Acquire::Check-Valid-Until=false".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            // The folder may be below one that apt's own user cannot enter.
            "APT::Sandbox::User=root".into(),
        ];
        Ok(Self { folder: folder.to_owned(), options })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).arg("-q");
        for option in &self.options {
            command.args(["-o", option]);
        }
        run(command.args(arguments))
    }
}

/// The mirrors of Debian's archive and of its security archive.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

fn mirrors() -> Result<Mirrors> {
    if let Ok(archive) = std::env::var(MIRROR_SETTING) {
        let archive = archive.trim_end_matches('/').to_owned();
        return Ok(Mirrors { security: format!("{archive}-security"), archive });
    }
    let format = "$(REPO_URI) $(RELEASE)";
    let listed =
        run(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    mirrors_in(&listed).with_context(|| {
        format!(
            "apt on this machine has no Debian sources: set {MIRROR_SETTING} to a mirror (http://host/debian)"
        )
    })
}

/// Picks the two mirrors from lines of address and suite: Debian's security archive is the only one with suites that
/// end in `-security` at an address that does too, and the archive is its neighbour on any mirror.
fn mirrors_in(listed: &str) -> Option<Mirrors> {
    let lines: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(address, suite)| (address.trim_end_matches('/'), suite.trim_end_matches('/')))
        .collect();
    let (security, suite) = lines
        .iter()
        .find(|(address, suite)| address.ends_with("debian-security") && suite.ends_with("-security"))?;
    let codename = suite.strip_suffix("-security")?;
    let (archive, _) =
        lines.iter().find(|(address, suite)| *suite == codename && address.ends_with("debian"))?;
    Some(Mirrors { archive: archive.to_string(), security: security.to_string() })
}

/// An apt source list of one release and its security updates.
fn sources(mirrors: &Mirrors, codename: &str) -> String {
    let Mirrors { archive, security } = mirrors;
    format!(
        "deb [signed-by={KEYRING}] {archive} {codename} main\n\
         deb [signed-by={KEYRING}] {security} {codename}-security main\n"
    )
}

/// The first package of the first `Depends:` line; `apt-cache show` prints the newest version first.
fn first_dependency(record: &str) -> Option<String> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([' ', ',']).next().map(str::to_owned)
}

/// Runs a command and returns what it printed; its messages are shown only if it fails.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}\n{}", arguments.join(" "), output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_from_the_machines_own_sources() {
        let listed = "http://m.example/debian-security/ stable-security\n\
                      http://other.example/debian stable-tools\n\
                      http://m.example/debian/ stable\n";
        let expected = Mirrors {
            archive: "http://m.example/debian".into(),
            security: "http://m.example/debian-security".into(),
        };
        assert_eq!(mirrors_in(listed), Some(expected));
        assert_eq!(mirrors_in("http://m.example/ubuntu noble\n"), None);
    }

    #[test]
    fn the_newest_kernel_is_the_first_dependency() {
        let record =
            "Package: m\nVersion: 2\nDepends: linux-image-2 (= 2), x\n\nPackage: m\nDepends: linux-image-1\n";
        assert_eq!(first_dependency(record).as_deref(), Some("linux-image-2"));
        assert_eq!(first_dependency("Package: m\n"), None);
    }
}
