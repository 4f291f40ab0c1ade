//! Whether a gateway's network namespace still exists, seen from any other.
//!
//! A dead pod leaves its pins on the node. Its successor must remove them, and must never remove those of a living neighbour,
//! whose namespace it cannot see. So each gateway pins a link to its network namespace. The kernel reports the namespace's
//! inode for such a link while the namespace exists and 0 from then on (`bpf_netns_link_fill_info`, since Linux 5.8), to
//! whoever asks. A TCX link's ifindex would tell the same of its device, but clsact filters have no links, a gateway that is
//! just starting has no links yet, and a physical device survives its pod's namespace.
//!
//! The link's program is called for socket lookups in the pod, for which it changes nothing; packets that the data path
//! redirects never come near it.
//!
//! The limit: a gateway counts as alive for as long as anything holds its namespace (a process, a bind mount), even when
//! nobody will use it again.

use std::{fs::File, os::unix::fs::MetadataExt as _, path::Path};

use tracing::warn;

use super::{error::Error, fdinfo, load::pin_over, sys};

/// Name of the pin.
pub(super) const NAME: &str = "netns";

/// What a gateway's folder says of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// It exists and has this inode.
    Alive(u64),
    /// It is gone.
    Dead,
    /// The folder has no link: its gateway is just making it, or just removing it.
    Unknown,
}

/// Whether the namespace of the gateway with the pins in `dir` exists.
pub(super) fn of(dir: &Path) -> Result<Namespace, Error> {
    let path = dir.join(NAME);
    let Some(link) = sys::open(&path).map_err(Error::pin("open", &path))? else {
        return Ok(Namespace::Unknown);
    };
    let inode = fdinfo::read(&link, "netns_ino").map_err(Error::pin("read", &path))?;
    Ok(match inode {
        Some(0) => Namespace::Dead,
        Some(inode) => Namespace::Alive(inode),
        None => Namespace::Unknown,
    })
}

/// Pins a link to this thread's network namespace in `dir`, unless there is one already.
pub(super) fn mark(dir: &Path) -> Result<(), Error> {
    const NETNS: &str = "/proc/thread-self/ns/net";
    let failed = |source| Error::Pin { action: "make", path: dir.join(NAME), source };
    let netns = File::open(NETNS).map_err(failed)?;
    match of(dir)? {
        Namespace::Alive(inode) if inode == netns.metadata().map_err(failed)?.ino() => return Ok(()),
        // A pod whose sandbox is made anew keeps its UID, and the old namespace may linger; two gateways with one id that run
        // side by side would take the pins from each other.
        Namespace::Alive(_) => warn!(
            folder = %dir.display(),
            "taking over the pins of a gateway with the same id in another network namespace that still exists: if it is still \
             in use, give each gateway an id of its own"
        ),
        Namespace::Dead | Namespace::Unknown => {}
    }
    let link = sys::link_to_netns(&netns).map_err(failed)?;
    pin_over(&dir.join(NAME), |path| sys::pin(&link, path))
}
