//! Which CPU does what, and for how long.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Keeps the calling thread on one CPU until it is dropped. What it starts meanwhile stays there, too.
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Moves the thread to `cpu`.
    ///
    /// # Errors
    /// If it may not run there.
    pub fn to(cpu: usize) -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).context("asking for the thread's CPUs")?;
        let mut only = CpuSet::new();
        only.set(cpu).context("naming a CPU")?;
        sched_setaffinity(this, &only).with_context(|| format!("moving the thread to CPU {cpu}"))?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The CPUs that were allowed a moment ago; if not any more, the kernel has chosen others.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// The time that a core spends on what the calling thread does there, and on what that sets off: interrupts' second halves run in the
/// thread, and in the core's `ksoftirqd` when they are many. What else runs on the machine meanwhile does not count.
pub struct CoreTime(Softirqs);

impl CoreTime {
    /// Of the calling thread, which must be pinned to `cpu`.
    ///
    /// # Errors
    /// If the core's `ksoftirqd` is not found.
    pub fn of(cpu: usize) -> Result<Self> {
        Softirqs::of(&format!("ksoftirqd/{cpu}")).map(Self)
    }

    /// So far.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn now(&self) -> Result<Duration> {
        let thread = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("reading the thread's clock")?;
        Ok(Duration::from(thread) + self.0.now()?)
    }
}

/// The time of `ksoftirqd`.
pub struct Softirqs(Vec<PathBuf>);

impl Softirqs {
    /// Of all cores.
    ///
    /// # Errors
    /// If none is found.
    pub fn of_all() -> Result<Self> {
        Self::of("ksoftirqd/")
    }

    /// Of those whose name begins like this.
    fn of(prefix: &str) -> Result<Self> {
        let processes = fs::read_dir("/proc").context("reading /proc")?;
        let is_one = |process: &fs::DirEntry| {
            fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
        };
        let found = processes.flatten().filter(is_one).map(|process| process.path().join("schedstat"));
        let found: Vec<PathBuf> = found.collect();
        ensure!(!found.is_empty(), "there is no {prefix}");
        Ok(Self(found))
    }

    /// So far.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn now(&self) -> Result<Duration> {
        let time = |file: &PathBuf| -> Result<Duration> {
            let text = fs::read_to_string(file).context("reading the time of ksoftirqd")?;
            let first = text.split(' ').next().unwrap_or_default();
            Ok(Duration::from_nanos(first.parse().context("schedstat")?))
        };
        self.0.iter().map(time).sum()
    }
}

/// The time that CPUs have spent on a process.
///
/// # Errors
/// If there is none.
pub fn process_time(pid: u32) -> Result<Duration> {
    let pid = i32::try_from(pid).context("a process's number")?;
    // Of all threads, those that have ended included.
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).context("looking for the process's clock")?;
    Ok(clock_gettime(clock).context("reading the process's clock")?.into())
}
