//! A container runtime of the bench's own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::wait;

/// Where control groups are, those of version 1 in a folder for each controller.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// How long it may take to start on a loaded machine.
const START: Duration = Duration::from_secs(30);

/// containerd with its folders and its socket in one folder, which goes with this value.
pub struct Containerd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Containerd {
    /// Starts it, and waits until it answers.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("making containerd's folder")?;
        let path = folder.path().display();
        let configuration = folder.path().join("config.toml");
        fs::write(
            &configuration,
            format!(
                "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{path}/socket\"\n"
            ),
        )
        .context("configuring containerd")?;
        let log = File::create(folder.path().join("log")).context("opening containerd's log")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(configuration).stdin(Stdio::null()).process_group(0);
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting containerd")?;
        let containerd = Self { folder, child };
        wait::until("containerd answers", START, || Ok(containerd.run(&["version"]).ok()))?;
        Ok(containerd)
    }

    /// Runs `ctr` and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("starting ctr")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {}: {said}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", &namespace()]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

/// Of containerd, not of Kubernetes. Its containers' control groups are in one of this name.
fn namespace() -> String {
    format!("sluice-bench-{}", std::process::id())
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ended = self.child.wait();
        let controllers =
            fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
        for folder in controllers.chain([CONTROL_GROUPS.into()]) {
            // It is not there for every controller.
            let _none = fs::remove_dir(folder.join(namespace()));
        }
    }
}
