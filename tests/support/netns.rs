//! Network namespaces that live no longer than the process: they are held by file descriptors, so that nothing is left
//! behind, however the process ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` looks for names.
const RUN: &str = "/run/netns";

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
    published: Option<PathBuf>,
}

impl Netns {
    /// Makes an empty namespace with the loopback device up.
    ///
    /// # Errors
    /// Without root (CAP_SYS_ADMIN).
    pub fn new(name: &str) -> Result<Self> {
        let made = std::thread::scope(|scope| {
            scope
                .spawn(|| -> io::Result<File> {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    File::open("/proc/thread-self/ns/net")
                })
                .join()
        });
        let file = match made {
            Ok(file) => file.with_context(|| format!("making the network namespace {name} (needs root)"))?,
            Err(_) => bail!("making the network namespace {name}: the thread panicked"),
        };
        let netns = Self { name: name.to_owned(), file, published: None };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other processes reach the namespace while this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Moves the calling thread into the namespace until the guard is dropped. Sockets stay in the namespace that they
    /// were made in, so that it is enough to make them here.
    pub fn enter(&self) -> Result<Entered> {
        let back = File::open("/proc/thread-self/ns/net").context("opening the thread's own namespace")?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.name))?;
        Ok(Entered { back })
    }

    /// Runs `f` inside the namespace, on this thread.
    pub fn run<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let _inside = self.enter()?;
        f()
    }

    /// A command that will run inside the namespace, and that is killed when the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let fd = self.file.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing; the descriptor is open in
        // the child, which is forked from this process.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                // SAFETY: `self.file` outlives the start of the command, see above.
                setns(BorrowedFd::borrow_raw(fd), CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        command
    }

    /// Runs a command to its end and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message holds its standard error.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::null());
        finish(command, None, &format!("{program} {} (in {})", args.join(" "), self.name))
    }

    /// Feeds `input` to a command and returns what it printed.
    ///
    /// # Errors
    /// As [`Netns::output`].
    pub fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(program);
        command.args(args);
        finish(command, Some(input), &format!("{program} {} (in {})\n{input}", args.join(" "), self.name))
    }

    /// Runs lines of `ip` commands (without the word `ip`) in one process.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.feed("ip", &["-batch", "-"], lines).map(drop)
    }

    /// Sets sysctls of the namespace; keys are paths below `/proc/sys/`.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                std::fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("setting {key} to {value} in {}", self.name))?;
            }
            Ok(())
        })
    }

    /// Lets `device` leave transport checksums to the hardware, as a veth does unless told otherwise, or not.
    pub fn set_checksum_offload(&self, device: &str, on: bool) -> Result<()> {
        /// `ETHTOOL_STXCSUM` of linux/ethtool.h.
        const SET_TX_CHECKSUM: u32 = 0x17;
        #[repr(C)]
        struct Value {
            command: u32,
            data: u32,
        }
        let mut value = Value { command: SET_TX_CHECKSUM, data: on.into() };
        let socket = self.run(|| Ok(std::net::UdpSocket::bind("127.0.0.1:0")?))?;
        // SAFETY: an all-zero ifreq is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
        // SAFETY: the request names a device and points to a value of the size that the command reads.
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, std::ptr::from_mut(&mut request)) };
        if result != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("setting the checksum offload of {device} in {}", self.name));
        }
        Ok(())
    }

    /// Gives the namespace a name that `ip netns` knows, until it is dropped or [`Netns::keep`] is called.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn publish(&mut self, name: &str) -> Result<()> {
        std::fs::create_dir_all(RUN).with_context(|| format!("making {RUN}"))?;
        let path = Path::new(RUN).join(name);
        File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("publishing a namespace as {}", path.display()))?;
        self.published = Some(path.clone());
        mount(Some(self.path().as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mounting a namespace at {}", path.display()))
    }

    /// Leaves a published name in place when this value goes, and with it the namespace.
    pub fn keep(&mut self) {
        self.published = None;
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Some(path) = &self.published {
            let _ = umount2(path, MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Brings the thread back to the namespace that it came from.
#[derive(Debug)]
pub struct Entered {
    back: File,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if setns(&self.back, CloneFlags::CLONE_NEWNET).is_err() {
            // Everything that this thread does next would happen in the wrong network.
            std::process::abort();
        }
    }
}

fn finish(mut command: Command, input: Option<&str>, what: &str) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("starting {what}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A command that fails early closes its end; its exit code and message say more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {what}"))?;
    if !output.status.success() {
        bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
