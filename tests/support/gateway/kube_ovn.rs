//! A gateway pod as Kube-OVN's controller makes it: one privileged container without volumes that is told to sleep, and what to
//! do by commands that run in it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use sluice_gateway::admin;
use sluice_gateway::status::Status;

use super::sandbox::Sandbox;
use super::sluice::binary;
use crate::topology::Topology;

/// The script that Kube-OVN runs.
const SCRIPT: &str = "/kube-ovn/lb-svc.sh";

/// The pod. Its shared memory is a folder that goes with this value.
#[derive(Debug)]
pub struct KubeOvnPod {
    binary: PathBuf,
    shm: tempfile::TempDir,
    container: Option<(Sandbox, Child)>,
}

impl KubeOvnPod {
    /// A pod without a container.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn new() -> Result<Self> {
        let shm = tempfile::tempdir().context("making the pod's shared memory")?;
        Ok(Self { binary: binary()?, shm, container: None })
    }

    /// Starts a container, whose files and mounts are new.
    pub fn start(&mut self, topology: &Topology) -> Result<()> {
        ensure!(self.container.is_none(), "there is a container already");
        let sandbox = Sandbox::privileged(&topology.pod, self.shm.path())?;
        let log = File::options().create(true).append(true).open(self.log()).context("opening the log")?;
        let mut command = sandbox.command(&topology.pod, &self.binary);
        command.arg0("sleep").arg("infinity").stdin(Stdio::null());
        command.stdout(log.try_clone().context("sharing the log")?).stderr(log).process_group(0);
        let child = command.spawn().context("starting the container")?;
        self.container = Some((sandbox, child));
        Ok(())
    }

    /// Kills the container, and with it all mounts that it made.
    pub fn kill(&mut self) -> Result<()> {
        let (sandbox, mut child) = self.container.take().context("no container runs")?;
        child.kill().context("killing the container")?;
        child.wait().context("waiting for the container's end")?;
        drop(sandbox);
        Ok(())
    }

    /// A command in the container, called by another name than its own.
    pub fn command(&self, topology: &Topology, name: &str) -> Result<Command> {
        let (sandbox, _) = self.container.as_ref().context("no container runs")?;
        let mut command = sandbox.command(&topology.pod, &self.binary);
        command.arg0(name).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs an operation as Kube-OVN does: as 1.16.2, by a line for a shell.
    pub fn exec(&self, topology: &Topology, operation: &str) -> Result<Output> {
        // Where there are no rules, the line ends with a blank.
        let blank = if operation.contains(' ') { "" } else { " " };
        let mut command = self.command(topology, "/bin/bash")?;
        command
            .args(["-c", &format!("bash {SCRIPT} {operation}{blank}")])
            .output()
            .context("running the operation")
    }

    /// Runs operations, each of which Kube-OVN must take for a success: exit code 0, and nothing on standard error.
    pub fn perform(&self, topology: &Topology, operations: &[String]) -> Result<()> {
        for operation in operations {
            let output = self.exec(topology, operation)?;
            if !output.status.success() || !output.stderr.is_empty() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("{operation}: {}: {said}\n{}", output.status, self.log_tail());
            }
        }
        Ok(())
    }

    /// What the gateway says of itself.
    pub fn status(&self) -> Result<Status> {
        admin::get_status(&self.folder().join("gateway.sock"))
    }

    /// The gateway file.
    pub fn gateway_file(&self) -> Result<String> {
        fs::read_to_string(self.folder().join("gateway.yaml")).context("reading the gateway file")
    }

    /// The end of the container's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn folder(&self) -> PathBuf {
        self.shm.path().join("sluice")
    }

    fn log(&self) -> PathBuf {
        Path::new(self.shm.path()).join("log")
    }
}

impl Drop for KubeOvnPod {
    fn drop(&mut self) {
        if self.container.is_some() {
            let _gone = self.kill();
        }
    }
}
