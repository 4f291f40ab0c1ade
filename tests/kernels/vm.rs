//! One virtual machine: qemu under software emulation, from boot to power-off.
//!
//! No KVM: the rung must run where it is absent, and inside other virtual machines. `Nehalem` is the smallest CPU model
//! that these kernels and our binaries boot on quickly.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Memory of a guest in MiB: the default flow tables of both families, and the unpacked initramfs.
const MEMORY_MIB: u32 = 1024;
/// How often the guest is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What to boot.
pub struct Machine<'a> {
    /// Names the machine's files.
    pub name: &'a str,
    /// Kernel image.
    pub kernel: &'a Path,
    /// The initramfs.
    pub initramfs: &'a [u8],
    /// Where the machine's files go.
    pub folder: &'a Path,
    /// How long it may take from start to power-off.
    pub deadline: Duration,
}

/// How a machine ended.
pub struct Outcome {
    /// All that came over the serial console.
    pub console: String,
    /// Whether it was still running at the deadline, and was ended.
    pub timed_out: bool,
    /// From start to end.
    pub took: Duration,
}

impl Machine<'_> {
    /// Boots the machine and waits for its end. Fails only if qemu does not start or ends with an error.
    pub fn run(&self) -> Result<Outcome> {
        fs::create_dir_all(self.folder).with_context(|| format!("making {}", self.folder.display()))?;
        let files = Files::new(self.folder, self.name);
        fs::write(&files.initramfs, self.initramfs)
            .with_context(|| format!("writing {}", files.initramfs.display()))?;
        let console =
            File::create(&files.console).with_context(|| format!("making {}", files.console.display()))?;
        let errors =
            File::create(&files.errors).with_context(|| format!("making {}", files.errors.display()))?;
        let start = Instant::now();
        let mut qemu = Qemu(
            self.command(&files.initramfs, console, errors)
                .spawn()
                .context("starting qemu-system-x86_64 (package qemu-system-x86), to boot another kernel")?,
        );
        let status = loop {
            if let Some(status) = qemu.0.try_wait().context("waiting for qemu")? {
                break Some(status);
            }
            if start.elapsed() > self.deadline {
                break None;
            }
            std::thread::sleep(POLL);
        };
        drop(qemu);
        let took = start.elapsed();
        let read = |path: &Path| {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let console = read(&files.console)?;
        if let Some(status) = status
            && !status.success()
        {
            bail!("qemu ended with {status}: {}\n{console}", read(&files.errors)?.trim());
        }
        Ok(Outcome { console, timed_out: status.is_none(), took })
    }

    fn command(&self, initramfs: &Path, console: File, errors: File) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            // Panics end the machine at once; only emergencies are printed between the results.
            .arg("console=ttyS0 panic=-1 loglevel=1 mitigations=off")
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        // SAFETY: prctl is a plain system call, safe between fork and exec.
        unsafe {
            // Drop does not run if this process is killed: then the kernel ends qemu.
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        command
    }
}

/// A running qemu, ended when dropped.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machine's files, of which only the console stays after it.
struct Files {
    initramfs: PathBuf,
    console: PathBuf,
    errors: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        let at = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        Self { initramfs: at("cpio"), console: at("console"), errors: at("qemu-errors") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.initramfs, &self.errors] {
            let _ = fs::remove_file(file);
        }
    }
}
