//! The guest's first process: mounts, modules, then the steps of `/etc/plan`, then power-off.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// File systems, by type and where they belong.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Runs the plan and powers off. Returns only if that fails, which ends the machine by a kernel panic.
pub fn run() -> ExitCode {
    if let Err(error) = plan() {
        // Without the report of its end, the run counts as failed.
        println!("the guest's init failed: {error:#}");
    }
    nix::unistd::sync();
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(error) => println!("powering off: {error}"),
    }
    ExitCode::FAILURE
}

fn plan() -> Result<()> {
    for (kind, target) in MOUNTS {
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {kind} on {target}"))?;
    }
    load_modules()?;
    for line in fs::read_to_string("/etc/plan").context("reading /etc/plan")?.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(program)) = (words.next(), words.next()) else {
            anyhow::bail!("a line of /etc/plan that is not a name and a command: {line}");
        };
        println!("@sluice begin {name}");
        let status = Command::new(program)
            .args(words)
            .env("PATH", "/bin")
            .status()
            .with_context(|| format!("starting {program}"))?;
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255);
        println!("@sluice end {name} {code}");
    }
    let taint = fs::read_to_string("/proc/sys/kernel/tainted").context("reading the kernel's taint flags")?;
    if taint.trim() != "0" {
        print_kernel_log().context("reading the kernel's log")?;
    }
    println!("@sluice kernel {}", taint.trim());
    println!("@sluice done");
    Ok(())
}

/// Loads the modules in the order of their file names.
fn load_modules() -> Result<()> {
    let mut files: Vec<_> =
        fs::read_dir("/modules").context("reading /modules")?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("loading {}", path.display()))?;
    }
    Ok(())
}

/// Prints what the kernel has to say: the console shows only emergencies, so as not to cut the results into pieces.
fn print_kernel_log() -> Result<()> {
    let mut log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(size) => print!("{}", String::from_utf8_lossy(record.get(..size).unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Overwritten while it was read; the next read goes on behind it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error.into()),
        }
    }
}
