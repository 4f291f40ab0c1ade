//! The real `sluice-gateway`, as it runs in a pod.

use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_tests::addresses::Family;
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::wait;

const PROGRAM: &str = "/bin/sluice-gateway";
const FOLDER: &str = "/run/sluice-guest";
/// Under emulation, loading the programs alone takes seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Port of the service that is the same on the VIP and on the target.
pub const SAME_PORT: u16 = 80;
/// Port of the VIP whose target listens on [`TARGET_PORT`].
pub const OTHER_PORT: u16 = 8080;
/// See [`OTHER_PORT`].
pub const TARGET_PORT: u16 = 9090;

/// Writes the gateway file of the topology and returns its path.
pub fn write_file() -> Result<String> {
    let plans = Family::ALL.map(Family::plan);
    let vips =
        plans.map(|plan| format!("      - {{ address: {}, gateway: {} }}\n", plan.vip_net(), plan.gateway));
    let targets = plans.map(|plan| format!("      - {}\n", plan.cluster_ip));
    let port = |protocol: Protocol, port, target| {
        format!(
            "      - {{ protocol: {}, port: {port}, targetPort: {target} }}\n",
            protocol.kubernetes_name()
        )
    };
    let ports = [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| port(protocol, SAME_PORT, SAME_PORT) + &port(protocol, OTHER_PORT, TARGET_PORT));
    let text = format!(
        "version: 1\nservices:\n  - name: default/test-service\n    vips:\n{}    targets:\n{}    ports:\n{}",
        vips.concat(),
        targets.concat(),
        ports.concat()
    );
    fs::create_dir_all(FOLDER).with_context(|| format!("making {FOLDER}"))?;
    let path = format!("{FOLDER}/gateway.yaml");
    fs::write(&path, text).with_context(|| format!("writing {path}"))?;
    Ok(path)
}

/// A command of the gateway inside its pod.
pub fn command(pod: &Netns, arguments: &[&str]) -> Command {
    let mut command = pod.command(PROGRAM);
    command.args(arguments);
    command
}

/// A running loader.
pub struct Gateway {
    process: Child,
    log: String,
}

impl Gateway {
    /// Starts the loader and waits until it serves.
    pub fn start(pod: &Netns, file: &str, run: u32) -> Result<Self> {
        let log = format!("{FOLDER}/log-{run}");
        let output = File::create(&log).with_context(|| format!("making {log}"))?;
        let process = command(pod, &["run", "--config", file])
            .stdout(output.try_clone().context("sharing the log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let mut gateway = Self { process, log };
        let ready = wait::until("the gateway is ready", DEADLINE, || {
            if let Some(status) = gateway.process.try_wait().context("waiting for the gateway")? {
                bail!("the gateway ended with {status}");
            }
            let probe = command(pod, &["ready"]).stderr(Stdio::null()).status();
            Ok(probe.context("asking whether the gateway is ready")?.success().then_some(()))
        });
        ready.with_context(|| gateway.log())?;
        Ok(gateway)
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).context("signalling the gateway")?;
        wait::until("the gateway ends", DEADLINE, || {
            self.process.try_wait().context("waiting for the gateway")
        })
        .with_context(|| self.log())
    }

    /// What the loader has printed.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        format!("the gateway's log:\n{text}")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
