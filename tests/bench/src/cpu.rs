//! Which CPU does what, and for how long.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, gettid};

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

/// Keeps a core from going to sleep until it is dropped, and tells how much of it others have left: a virtual machine's sleeping core takes
/// its host up to milliseconds to wake, which would be the largest part of a latency. Whoever else wants the core gets it at once
/// (SCHED_IDLE, sched(7)).
pub struct Awake {
    /// Turns of the thread that does nothing else than count them.
    turns: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    /// Keeps `cpu` busy with nothing.
    ///
    /// # Errors
    /// If a thread cannot have the core, or not with the least priority.
    pub fn of(cpu: usize) -> Result<Self> {
        let (turns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, told) = mpsc::channel();
        let counting = (turns.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let pinned = Pinned::to(cpu);
            let _ = tell.send(pinned.as_ref().map(|_| gettid()).map_err(|error| format!("{error:#}")));
            while pinned.is_ok() && !counting.1.load(Ordering::Relaxed) {
                for _ in 0..STEPS {
                    black_box(());
                }
                counting.0.fetch_add(1, Ordering::Relaxed);
            }
        });
        let awake = Self { turns, stop, thread: Some(thread) };
        let id = told.recv().context("a thread that ended")?.map_err(anyhow::Error::msg)?;
        let mut chrt = Command::new("chrt");
        let status = chrt.args(["--idle", "--pid", "0", &id.to_string()]).status().context("running chrt")?;
        ensure!(status.success(), "chrt has not given thread {id} the least priority: {status}");
        Ok(awake)
    }

    /// Calls `work`, and returns with its result how long others have had the core meanwhile. What the core can do in so long is looked
    /// for just before, since its clock changes.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn taken<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        /// How long to look.
        const LOOK: Duration = Duration::from_millis(100);
        let (idle, alone) = self
            .count(|| {
                thread::sleep(LOOK);
                Ok(())
            })?
            .1;
        let (result, (turns, time)) = self.count(work)?;
        let left = turns as f64 / idle as f64 * alone.as_secs_f64();
        Ok((result, Duration::from_secs_f64((time.as_secs_f64() - left).max(0.0))))
    }

    /// Turns during `work`, and how long it took.
    fn count<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, (u64, Duration))> {
        let (started, before) = (Instant::now(), self.turns.load(Ordering::Relaxed));
        let result = work()?;
        let turns = self.turns.load(Ordering::Relaxed) - before;
        Ok((result, (turns, started.elapsed())))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Steps of one turn of [`Awake`]: about a microsecond, so that its end is not worth mentioning.
const STEPS: u32 = 1000;

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
