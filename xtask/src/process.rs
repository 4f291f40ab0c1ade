//! Running other programs, so that an interrupt ends them in good order.
//!
//! Each program runs in a process group of its own. Ctrl-C then reaches xtask alone, which passes it on to the whole
//! group and waits until the last member has cleaned up and gone: `cargo test` itself dies at once, its test binary
//! may still have network namespaces to remove.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::ui;

/// How long interrupted programs may take to clean up before they are killed.
const CLEANUP_LIMIT: Duration = Duration::from_secs(60);

/// The process group that runs now; 0 if none does.
static GROUP: AtomicI32 = AtomicI32::new(0);
/// The signal that asked xtask to end; 0 if none did.
static INTERRUPT: AtomicI32 = AtomicI32::new(0);

/// Somebody asked xtask to end, and what it ran has ended.
#[derive(Debug)]
pub struct Interrupted(i32);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

impl Interrupted {
    /// The exit code that shells expect of a program ended by this signal.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::try_from(128 + self.0).unwrap_or(u8::MAX))
    }
}

/// Takes over SIGINT, SIGTERM and SIGHUP. To be called once, before anything runs.
pub fn handle_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("taking over Ctrl-C")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let again = INTERRUPT.swap(signal, Ordering::SeqCst) != 0;
            let group = GROUP.load(Ordering::SeqCst);
            if group == 0 {
                std::process::exit(128 + signal);
            }
            let signal =
                if again { Signal::SIGKILL } else { Signal::try_from(signal).unwrap_or(Signal::SIGTERM) };
            if !again {
                ui::note("ending what runs, and waiting for its cleanup; once more to kill it at once");
            }
            // The group may be gone by now, which is what was asked for.
            let _gone = killpg(Pid::from_raw(group), signal);
        }
    });
    Ok(())
}

/// Fails if somebody has asked xtask to end.
fn check_interrupt() -> Result<()> {
    match INTERRUPT.load(Ordering::SeqCst) {
        0 => Ok(()),
        signal => Err(Interrupted(signal).into()),
    }
}

/// A running program and its process group.
struct Running {
    child: std::process::Child,
    line: String,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        check_interrupt()?;
        let line = shell_line(command);
        ui::command(&line);
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting `{}`", command.get_program().display()))?;
        GROUP.store(i32::try_from(child.id()).context("a process id")?, Ordering::SeqCst);
        // An interrupt that came before the line above had no group to be passed on to.
        if let signal @ 1.. = INTERRUPT.load(Ordering::SeqCst) {
            let _gone = killpg(Pid::from_raw(GROUP.load(Ordering::SeqCst)), Signal::try_from(signal)?);
        }
        Ok(Self { child, line })
    }

    fn wait(mut self) -> Result<ExitStatus> {
        let group = Pid::from_raw(GROUP.load(Ordering::SeqCst));
        let status = self.child.wait().with_context(|| format!("waiting for `{}`", self.line))?;
        let interrupted = check_interrupt();
        if interrupted.is_err() {
            let deadline = Instant::now() + CLEANUP_LIMIT;
            while killpg(group, None).is_ok() {
                if Instant::now() > deadline {
                    ui::note("its cleanup takes too long: killing it");
                    let _gone = killpg(group, Signal::SIGKILL);
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        GROUP.store(0, Ordering::SeqCst);
        interrupted.map(|()| status)
    }
}

/// Runs a program that talks to the user directly.
///
/// # Errors
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let running = Running::start(command.stdin(Stdio::null()))?;
    let line = running.line.clone();
    let status = running.wait()?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs a program whose output matters only when it fails; meanwhile shows progress on `what`.
///
/// # Errors
/// If it cannot be started or fails; its output is in the error.
pub fn run_quietly(what: &str, command: &mut Command) -> Result<()> {
    let mut output = Vec::new();
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let other = writer.try_clone().context("copying a pipe")?;
    let running = Running::start(command.stdin(Stdio::null()).stdout(writer).stderr(other))?;
    // The command keeps its copies of the pipe's write end: as long as they live, reading never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let line = running.line.clone();
    let mut progress = ui::Progress::start(what);
    for text in BufReader::new(reader).split(b'\n') {
        let text = String::from_utf8_lossy(&text.context("reading its output")?).into_owned();
        progress.line(&text);
        output.push(text);
    }
    let status = running.wait()?;
    if !status.success() {
        return Err(anyhow!("it printed:\n{}", output.join("\n"))
            .context(format!("`{line}` ended with {status}"))
            .context(format!("{what} failed")));
    }
    progress.done();
    Ok(())
}

/// Runs a program and hands each line of its standard output to `line` as it comes.
///
/// # Errors
/// If it cannot be started. Its own failure is in the status.
pub fn run_lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    if let Some(stdout) = running.child.stdout.take() {
        for text in BufReader::new(stdout).split(b'\n') {
            line(&String::from_utf8_lossy(&text.context("reading its output")?));
        }
    }
    running.wait()
}

/// Asks a program something, silently: its standard output, or `None` if it is not there or fails.
pub fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The path of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The stable cargo that runs xtask, in the repository, without the settings that `cargo run` leaves in the environment.
pub fn cargo() -> Command {
    static CARGO: OnceLock<PathBuf> = OnceLock::new();
    let cargo = CARGO.get_or_init(|| std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from));
    cargo_at(cargo)
}

/// Another cargo, in the same way.
pub fn cargo_at(cargo: &Path) -> Command {
    let mut command = Command::new(cargo);
    command.current_dir(root());
    // Build scripts look at some of these: left in place, each would run again when xtask calls cargo.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_CRATE_NAME"
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// Lets none of the user's settings for their own programs into a build.
pub fn forget_user_settings(command: &mut Command) {
    const PREFIXES: [&str; 5] =
        ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC_", "CARGO_ENCODED_"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RUSTC", "RUSTFLAGS"].contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}

/// The command line as one would type it into bash, paths of the repository and of cargo shortened.
pub fn shell_line(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), quote(&value?.to_string_lossy()))))
        .collect();
    let program = Path::new(command.get_program());
    words.push(match program.file_name() {
        Some(name) if name == "cargo" => "cargo".to_owned(),
        _ => quote(&shorten(program)),
    });
    words.extend(command.get_args().map(|arg| quote(&arg.to_string_lossy())));
    words.join(" ")
}

/// `path` as seen from the repository.
pub fn shorten(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains('\x1f') {
        format!("$'{}'", word.replace('\\', "\\\\").replace('\'', "\\'").replace('\x1f', "\\x1f"))
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_line_can_be_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.env("A", "x\x1fy").env_remove("B").args(["build", "it's", "", "-p", "x"]);
        assert_eq!(shell_line(&command), r"A=$'x\x1fy' cargo build 'it'\''s' '' -p x");
    }

    #[test]
    fn a_failure_shows_what_was_printed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run_quietly("the work", &mut command).unwrap_err();
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(causes[0], "the work failed");
        assert!(causes[1].ends_with("ended with exit status: 3"), "{causes:?}");
        assert_eq!(causes[2], "it printed:\none\ntwo");
    }

    #[test]
    fn lines_arrive_one_by_one() {
        let mut lines = Vec::new();
        let mut command = Command::new("printf");
        let status = run_lines(command.arg(r"a\nb"), |line| lines.push(line.to_owned())).unwrap();
        assert!(status.success());
        assert_eq!(lines, ["a", "b"]);
    }
}
