//! What the loader needs of the kernel and of the pod, checked before anything is touched.

use std::path::{Path, PathBuf};

use aya::util::KernelVersion;
use caps::{CapSet, Capability};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The oldest kernel that is supported, as major and minor number.
///
/// The programs need compare-and-swap on map values (5.12), `bpf_ktime_get_coarse_ns` (5.11) and `bpf_loop` (5.17); older
/// ones also charge maps to RLIMIT_MEMLOCK (until 5.11). 6.1 is the oldest that is tested.
pub const MINIMUM_KERNEL: (u8, u8) = (6, 1);

/// Needed capabilities, and what for.
const CAPABILITIES: [(Capability, &str); 4] = [
    (Capability::CAP_NET_ADMIN, "addresses, routes, and attaching programs to interfaces"),
    (Capability::CAP_NET_RAW, "announcing VIPs by ARP and neighbour advertisements"),
    (Capability::CAP_BPF, "loading programs and making maps"),
    (Capability::CAP_PERFMON, "programs that compute with packet pointers"),
];

/// A precondition that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    /// The kernel is too old.
    #[error(
        "Linux {found} is too old: Sluice needs {}.{} or newer. Its programs use compare-and-swap on map values (Linux 5.12), \
         a coarse clock (5.11) and bounded loops by helper (5.17), and {}.{} is the oldest kernel they are tested on",
        MINIMUM_KERNEL.0, MINIMUM_KERNEL.1, MINIMUM_KERNEL.0, MINIMUM_KERNEL.1
    )]
    Kernel {
        /// What uname says.
        found: String,
    },
    /// The kernel's version is unknown.
    #[error("the kernel's version could not be read: {0}")]
    KernelUnknown(String),
    /// Capabilities are missing.
    #[error("missing capabilities: {}. Add them to the container's securityContext.capabilities.add", missing.join("; "))]
    Capabilities {
        /// Each with its purpose.
        missing: Vec<String>,
    },
    /// The thread's capabilities are unknown.
    #[error("the process's capabilities could not be read: {0}")]
    CapabilitiesUnknown(String),
    /// There is no BPF file system where the pins go.
    #[error(
        "{} is not on a BPF file system, so nothing could be pinned there: mount the node's /sys/fs/bpf into the container at \
         /sys/fs/bpf (a hostPath volume with `path: /sys/fs/bpf`, `type: Directory`)",
        .0.display()
    )]
    NoBpffs(PathBuf),
}

/// Checks kernel, capabilities and the BPF file system at `bpffs`.
pub fn check(bpffs: &Path) -> Result<(), Unmet> {
    check_kernel()?;
    check_capabilities()?;
    check_bpffs(bpffs)
}

fn check_kernel() -> Result<(), Unmet> {
    let found = KernelVersion::current().map_err(|error| Unmet::KernelUnknown(error.to_string()))?;
    if is_new_enough(found) {
        return Ok(());
    }
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| format!("{found:?}"));
    Err(Unmet::Kernel { found: release.trim().to_owned() })
}

fn is_new_enough(found: KernelVersion) -> bool {
    let (major, minor) = MINIMUM_KERNEL;
    found >= KernelVersion::new(major, minor, 0)
}

fn check_capabilities() -> Result<(), Unmet> {
    // Of the calling thread, which is the one whose system calls follow.
    let effective =
        caps::read(None, CapSet::Effective).map_err(|error| Unmet::CapabilitiesUnknown(error.to_string()))?;
    let missing = missing_capabilities(|capability| effective.contains(&capability));
    if missing.is_empty() { Ok(()) } else { Err(Unmet::Capabilities { missing }) }
}

fn missing_capabilities(has: impl Fn(Capability) -> bool) -> Vec<String> {
    let missing = CAPABILITIES.into_iter().filter(|(capability, _)| !has(*capability));
    missing.map(|(capability, purpose)| format!("{capability} ({purpose})")).collect()
}

/// Checks the BPF file system at `path`.
pub fn check_bpffs(path: &Path) -> Result<(), Unmet> {
    let stat = statfs(path).map_err(|_| Unmet::NoBpffs(path.to_owned()))?;
    if stat.filesystem_type() == BPF_FS_MAGIC { Ok(()) } else { Err(Unmet::NoBpffs(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_older_than_the_minimum_is_refused_with_the_reasons() {
        for (version, accepted) in
            [((5, 10), false), ((6, 0), false), ((6, 1), true), ((6, 12), true), ((7, 0), true)]
        {
            assert_eq!(is_new_enough(KernelVersion::new(version.0, version.1, 9)), accepted, "{version:?}");
        }
        let error = Unmet::Kernel { found: "5.10.0-30-amd64".to_owned() }.to_string();
        for part in ["5.10.0-30-amd64", "6.1 or newer", "compare-and-swap", "5.12"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn each_missing_capability_is_named_with_its_purpose() {
        assert!(missing_capabilities(|_| true).is_empty());
        let missing = missing_capabilities(|c| c != Capability::CAP_BPF && c != Capability::CAP_NET_RAW);
        assert_eq!(missing.len(), 2);
        assert!(missing[0].starts_with("CAP_NET_RAW (announcing"), "{}", missing[0]);
        assert!(missing[1].starts_with("CAP_BPF (loading"), "{}", missing[1]);
    }

    #[test]
    fn a_folder_elsewhere_is_no_bpffs() {
        let elsewhere = tempfile::tempdir().unwrap();
        let error = check_bpffs(elsewhere.path()).unwrap_err().to_string();
        assert!(error.contains("hostPath") && error.contains("/sys/fs/bpf"), "{error}");
        check_bpffs(&elsewhere.path().join("missing")).unwrap_err();
    }
}
