//! What a container runtime does for the gateway's container: its own mounts, `/proc/sys` read-only, four capabilities.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::netns::Netns;

/// Where the container has its own files: the gateway file, the socket, the log.
pub const RUN: &str = "/run";

/// The capabilities that the gateway needs: NET_ADMIN, NET_RAW, PERFMON, BPF (linux/capability.h).
pub const CAPABILITIES: [u64; 4] = [12, 13, 38, 39];

/// The mounts of a pod's container. They are held by file descriptors, and so gone when the process is, with everything
/// that was pinned or written in them.
#[derive(Debug)]
pub struct Sandbox {
    mounts: File,
    run: File,
    confined: bool,
}

impl Sandbox {
    /// A container of the pod `netns`.
    pub fn new(netns: &Netns) -> Result<Self> {
        Self::with(netns, true, || {
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>)
                .context("mounting /sys/fs/bpf")?;
            mount_proc_sys()
        })
    }

    /// A privileged container without volumes; `shm` is the pod's shared memory, which all of its containers have.
    pub fn privileged(netns: &Netns, shm: &Path) -> Result<Self> {
        Self::with(netns, false, || {
            mount(Some(shm), "/dev/shm", None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .context("mounting /dev/shm")
        })
    }

    fn with(netns: &Netns, confined: bool, more: impl FnOnce() -> Result<()> + Send) -> Result<Self> {
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _inside = netns.enter()?;
                unshare(CloneFlags::CLONE_NEWNS).context("unsharing the mounts")?;
                lay_mounts(confined)?;
                more()?;
                let run =
                    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(RUN)?;
                anyhow::Ok(Self { mounts: File::open("/proc/thread-self/ns/mnt")?, run, confined })
            });
            thread.join()
        });
        match made {
            Ok(sandbox) => sandbox.context("making a container's mounts"),
            Err(_) => bail!("making a container's mounts: the thread panicked"),
        }
    }

    /// The container's `/run`, from outside.
    pub fn run_dir(&self) -> PathBuf {
        own_descriptor(&self.run)
    }

    /// The mount namespace, by a path that holds while this process lives.
    pub fn mounts_path(&self) -> PathBuf {
        own_descriptor(&self.mounts)
    }

    /// A command that runs in the container: in the pod's network and these mounts, as root; unless the container is privileged,
    /// with the four capabilities and no way to more. It is killed when the thread that starts it ends.
    pub fn command(&self, netns: &Netns, program: &Path) -> Command {
        let (mounts, confined) = (self.mounts.as_raw_fd(), self.confined);
        let mut command = netns.command(program);
        // SAFETY: the closure makes system calls only; the descriptor is open in the child, which is forked from this process.
        unsafe {
            command.pre_exec(move || {
                // SAFETY: see above.
                setns(BorrowedFd::borrow_raw(mounts), CloneFlags::CLONE_NEWNS)?;
                if confined { confine() } else { Ok(()) }
            });
        }
        command
    }
}

/// A path by which other processes reach an open file of this one.
fn own_descriptor(file: &File) -> PathBuf {
    Path::new("/proc").join(std::process::id().to_string()).join("fd").join(file.as_raw_fd().to_string())
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

fn lay_mounts(confined: bool) -> Result<()> {
    let none = None::<&str>;
    let step = |what: &'static str| move || format!("mounting {what}");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).with_context(step("privately"))?;
    let sysfs = if confined { SAFE | MsFlags::MS_RDONLY } else { SAFE };
    mount(Some("sysfs"), "/sys", Some("sysfs"), sysfs, none).with_context(step("/sys"))?;
    mount(Some("tmpfs"), RUN, Some("tmpfs"), MsFlags::empty(), none).with_context(step(RUN))
}

fn mount_proc_sys() -> Result<()> {
    let none = None::<&str>;
    let again = SAFE | MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).context("mounting /proc/sys")?;
    mount(none, "/proc/sys", none, again, none).context("mounting /proc/sys read-only")
}

/// Leaves the four capabilities in the bounding set: the exec that follows, by root, has these and no others. Between fork
/// and exec: system calls only.
fn confine() -> std::io::Result<()> {
    for capability in 0..64 {
        if CAPABILITIES.contains(&capability) {
            continue;
        }
        // SAFETY: a system call without pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            // The first number that the kernel does not know.
            break;
        }
    }
    // SAFETY: as above.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
