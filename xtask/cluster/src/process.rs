//! Processes that are known by number and start time, so that nobody else's is taken for one of ours after its number was given anew.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How long a process may take to be gone after SIGKILL: the kernel first takes down what it held.
const GONE: Duration = Duration::from_secs(30);

/// A process of this boot of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// In clock ticks since boot, as in field 22 of `/proc/PID/stat` (proc(5)).
    started: u64,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: u32) -> Result<Self> {
        let pid = pid.cast_signed();
        let (_, started) = stat(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { pid, started })
    }

    /// Reads what [`Self::save`] wrote; `None`: there is no such file, or the process has ended.
    pub fn load(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let process = Self { pid: pid.parse().ok()?, started: started.parse().ok()? };
        process.runs().then_some(process)
    }

    /// Writes number and start time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(self, file: &Path) -> Result<()> {
        fs::write(file, format!("{} {}\n", self.pid, self.started))
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Its number.
    pub const fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn runs(self) -> bool {
        let Some((state, started)) = stat(self.pid) else { return false };
        if started != self.started {
            return false;
        }
        // One of our own children stays until somebody has asked how it ended, which nobody can before the last of its threads has: the first
        // one, whose state this is, may be earlier.
        state != 'Z'
            || waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(self, signal: Signal) {
        if self.runs() {
            let _gone_meanwhile = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends it a signal and waits until it has ended.
    ///
    /// # Errors
    /// It runs on.
    pub fn end(self, signal: Signal) -> Result<()> {
        self.signal(signal);
        let asked = Instant::now();
        while self.runs() {
            if asked.elapsed() > GONE {
                bail!("process {} still runs {GONE:?} after {signal}", self.pid);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// State and start time of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name, which is in brackets, may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_over() {
        let stat = "7 (a) S 1 (b) R 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse_stat(stat), Some(('R', 4711)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn another_process_of_the_same_number_is_not_taken_for_it() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.runs());
        assert!(!Process { started: this.started + 1, ..this }.runs());
    }

    #[test]
    fn what_was_saved_is_found_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sleep");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        process.save(&file).unwrap();
        assert_eq!(Process::load(&file), Some(process));
        process.end(Signal::SIGKILL).unwrap();
        assert_eq!(Process::load(&file), None);
        let _reaped_already = child.wait();
    }
}
