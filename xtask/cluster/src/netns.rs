//! A network namespace, and commands in it.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

/// The network of a machine, or of a pod. It is held open: it does not go while this value is there.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// That of a process; `name` is for messages.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: i32, name: &str) -> Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))
            .with_context(|| format!("opening the network of {name}"))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// A command that will run in this network, with everything else as outside: files, processes, working folder. It is killed when the
    /// thread that starts it ends.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let file = self.file.try_clone().with_context(|| format!("holding the network of {}", self.name))?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)
            });
        }
        Ok(command)
    }

    /// Runs a command to its end, and returns what it printed.
    ///
    /// # Errors
    /// If it fails: the error has what it said.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments).stdin(Stdio::null());
        let what = format!("{} (in {})", describe(&command), self.name);
        finish(command.output().with_context(|| what.clone())?, &what)
    }

    /// Runs lines of `ip` commands, without the word `ip`.
    ///
    /// # Errors
    /// As of [`Self::output`].
    pub fn ip(&self, lines: &str) -> Result<()> {
        lines.lines().try_for_each(|line| {
            let arguments: Vec<&str> = line.split_whitespace().collect();
            if arguments.is_empty() { Ok(()) } else { self.output("ip", &arguments).map(drop) }
        })
    }

    /// Runs `work` on a thread in this network. Sockets stay in the network that they were made in.
    ///
    /// # Errors
    /// Without root.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        aside(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.name))?;
            Ok(work())
        })
    }
}

/// Runs `work` on a thread of its own: what it enters is for that thread, and for what it starts.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// What a command printed, or an error with what it said.
pub(crate) fn finish(output: Output, what: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command line for messages.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
