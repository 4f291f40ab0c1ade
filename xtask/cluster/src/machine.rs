//! A machine of the cluster: a process with namespaces of its own for processes, mounts, network and host name. Whatever runs in it ends when that
//! process does, as by a power cut, and its devices and mounts are gone then.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::Signal,
    unistd::{chdir, setsid},
};

use crate::{
    netns::{Netns, aside, describe, finish},
    process::Process,
    programs,
    spec::{READY, STAY, Spec},
};

/// A machine that runs.
#[derive(Debug)]
pub struct Machine {
    name: String,
    init: Process,
    /// Where logs and process numbers are.
    folder: PathBuf,
    /// Closed without a word, the machine ends.
    lifeline: Option<ChildStdin>,
}

impl Machine {
    /// Switches it on; it ends with this process, unless [`Self::detach`] is called. Logs and process numbers go to `folder`, which must be there.
    ///
    /// # Errors
    /// Without root; the error has what the first process said.
    pub fn start(folder: &Path, spec: &Spec) -> Result<Self> {
        let what = || format!("starting the machine {}", spec.name);
        let mut command = Command::new(programs::init()?);
        command.arg(serde_json::to_string(spec).context("a machine as JSON")?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log(folder, "init")?);
        // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
                Ok(())
            });
        }
        let mut child = aside(|| {
            unshare(CloneFlags::CLONE_NEWPID).context("making a process namespace (needs root)")?;
            command.spawn().context("starting its first process")
        })
        .with_context(what)?;
        let init = Process::of(child.id())?;
        init.save(&pid_file(folder, "init"))?;
        let lifeline = child.stdin.take();
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).with_context(what)?;
        }
        if line.trim_end() != READY {
            bail!("{}: {}", what(), tail(&log_file(folder, "init")));
        }
        Ok(Self { name: spec.name.clone(), init, folder: folder.to_owned(), lifeline })
    }

    /// One that was started by another process; `None`: it does not run.
    pub fn find(name: &str, folder: &Path) -> Option<Self> {
        let init = Process::load(&pid_file(folder, "init"))?;
        Some(Self { name: name.to_owned(), init, folder: folder.to_owned(), lifeline: None })
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it ends with this process, which started it.
    pub const fn ends_with_starter(&self) -> bool {
        self.lifeline.is_some()
    }

    /// Lets it outlive this process.
    ///
    /// # Errors
    /// It has ended.
    pub fn detach(&mut self) -> Result<()> {
        let Some(mut lifeline) = self.lifeline.take() else { return Ok(()) };
        lifeline.write_all(STAY).with_context(|| format!("telling {} to stay", self.name))
    }

    /// Its first process.
    pub const fn init(&self) -> Process {
        self.init
    }

    /// The log of a program that was started in it.
    pub fn log_file(&self, program: &str) -> PathBuf {
        log_file(&self.folder, program)
    }

    /// Its network.
    ///
    /// # Errors
    /// It does not run.
    pub fn network(&self) -> Result<Netns> {
        let network = Netns::of(self.init.pid(), &self.name);
        // Asked after the file is open: it is no other process's then.
        self.expect_running()?;
        network
    }

    /// [`Netns::command`] in its network.
    ///
    /// # Errors
    /// As there, and if the machine does not run.
    pub fn network_command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        self.network()?.command(program)
    }

    /// [`Netns::output`] in its network.
    ///
    /// # Errors
    /// As there, and if the machine does not run.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.network()?.output(program, arguments)
    }

    /// [`Netns::ip`] in its network.
    ///
    /// # Errors
    /// As there, and if the machine does not run.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.network()?.ip(lines)
    }

    /// Runs a command inside to its end, with the machine's own mounts and processes, and returns what it printed.
    ///
    /// # Errors
    /// As of [`Self::output`].
    pub fn run(&self, mut command: Command) -> Result<String> {
        let what = format!("{} (in {})", describe(&command), self.name);
        command.stdin(Stdio::null());
        self.move_inside(&mut command)?;
        let processes = self.namespace("pid")?;
        let output = aside(|| {
            setns(&processes, CloneFlags::CLONE_NEWPID).context("entering the machine")?;
            command.output().with_context(|| what.clone())
        })?;
        finish(output, &what)
    }

    /// Starts a program in the machine's folder; it goes on after this process. Its output is appended to its log.
    ///
    /// # Errors
    /// It cannot be started, or runs already.
    pub fn start_program(&self, name: &str, mut command: Command) -> Result<()> {
        if self.program(name).is_some() {
            bail!("{name} runs already on {}", self.name);
        }
        let what = || format!("starting {name} on {}", self.name);
        command.stdin(Stdio::null()).stdout(log(&self.folder, name)?).stderr(log(&self.folder, name)?);
        self.move_inside(&mut command)?;
        let processes = self.namespace("pid")?;
        let child = aside(|| {
            setns(&processes, CloneFlags::CLONE_NEWPID).context("entering the machine")?;
            command.spawn().with_context(what)
        })?;
        Process::of(child.id())?.save(&pid_file(&self.folder, name))
    }

    /// The program of this name that runs in it.
    pub fn program(&self, name: &str) -> Option<Process> {
        Process::load(&pid_file(&self.folder, name))
    }

    /// An error if a program that was started does not run: with the end of its log.
    ///
    /// # Errors
    /// See above.
    pub fn expect_program(&self, name: &str) -> Result<()> {
        if self.program(name).is_none() {
            bail!("{name} has ended on {}; the end of its log:\n{}", self.name, tail(&self.log_file(name)));
        }
        Ok(())
    }

    /// Ends a program by a signal, and waits until it has ended. One that does not run is fine.
    ///
    /// # Errors
    /// It goes on.
    pub fn stop_program(&self, name: &str, signal: Signal) -> Result<()> {
        self.program(name).map_or(Ok(()), |process| process.end(signal))
    }

    /// Pulls the plug: every process is killed at once, and devices and mounts are gone.
    ///
    /// # Errors
    /// It goes on.
    pub fn kill(&self) -> Result<()> {
        let what = || format!("killing {}", self.name);
        let files = self.folder.read_dir().with_context(what)?.flatten().map(|entry| entry.path());
        let started: Vec<Process> = files
            .filter(|file| file.extension().is_some_and(|kind| kind == "pid"))
            .filter_map(|file| Process::load(&file))
            .filter(|process| *process != self.init)
            .collect();
        self.init.signal(Signal::SIGKILL);
        // It is gone with the last of its processes, and one that was started from here stays until it was asked how it ended.
        started.into_iter().try_for_each(|process| process.end(Signal::SIGKILL)).with_context(what)?;
        self.init.end(Signal::SIGKILL).with_context(what)
    }

    /// A file of the machine, as this process reaches it.
    pub fn path(&self, file: &str) -> PathBuf {
        format!("/proc/{}/root{file}", self.init.pid()).into()
    }

    fn namespace(&self, kind: &str) -> Result<File> {
        let file = File::open(format!("/proc/{}/ns/{kind}", self.init.pid()));
        self.expect_running()?;
        file.with_context(|| format!("opening the {kind} namespace of {}", self.name))
    }

    fn expect_running(&self) -> Result<()> {
        if self.init.runs() { Ok(()) } else { bail!("the machine {} does not run", self.name) }
    }

    fn move_inside(&self, command: &mut Command) -> Result<()> {
        let namespaces = [
            (self.namespace("net")?, CloneFlags::CLONE_NEWNET),
            (self.namespace("uts")?, CloneFlags::CLONE_NEWUTS),
            (self.namespace("mnt")?, CloneFlags::CLONE_NEWNS),
        ];
        let folder = CString::new(self.folder.as_os_str().as_bytes()).context("a folder's name")?;
        // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                for (file, kind) in &namespaces {
                    setns(file, *kind)?;
                }
                // With the mounts the working folder has changed.
                Ok(chdir(folder.as_c_str())?)
            });
        }
        Ok(())
    }
}

fn pid_file(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}.pid"))
}

fn log_file(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}.log"))
}

fn log(folder: &Path, program: &str) -> Result<File> {
    let file = log_file(folder, program);
    File::options()
        .create(true)
        .append(true)
        .open(&file)
        .with_context(|| format!("opening {}", file.display()))
}

/// The last lines of a log.
fn tail(file: &Path) -> String {
    match std::fs::read(file) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(30)..].join("\n")
        }
        Err(error) => format!("{}: {error}", file.display()),
    }
}
