//! Sluice: the real binary in a container like the pod's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_gateway::admin;
use sluice_gateway::config::{self, file};
use sluice_gateway::status::Status;
use sluice_gateway_ebpf::maps::SCHEMA_VERSION;

use super::sandbox::{CAPABILITIES, Sandbox};
use super::{GatewayUnderTest, Spec};
use crate::addresses::Family;
use crate::kube_proxy::Protocol;
use crate::topology::Topology;
use crate::wait;

/// How long the programs may take to load and everything to be in place, on a loaded machine.
const START: Duration = Duration::from_secs(30);
/// The folder of the daemon's own files, in the container and below [`Sandbox::run_dir`].
const FOLDER: &str = "sluice";

/// The gateway `sluice-gateway`.
#[derive(Debug)]
pub struct Sluice {
    binary: PathBuf,
    sandbox: Sandbox,
    gateway_id: String,
    /// `--resync`, unless it is the default.
    resync: Option<&'static str>,
    child: Option<Child>,
    /// The file that is in place.
    text: String,
}

impl Sluice {
    /// A container in the topology's pod; nothing runs yet.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn new(topology: &Topology) -> Result<Self> {
        let sandbox = Sandbox::new(&topology.pod)?;
        fs::create_dir(sandbox.run_dir().join(FOLDER)).context("making the daemon's folder")?;
        let gateway_id = "test".to_owned();
        Ok(Self { binary: binary()?, sandbox, gateway_id, resync: None, child: None, text: String::new() })
    }

    /// Names its folder of pins, `test` unless set.
    pub fn set_gateway_id(&mut self, gateway_id: &str) {
        gateway_id.clone_into(&mut self.gateway_id);
    }

    /// Lets the daemon look at the network this often without being woken up, such as `10m`.
    pub const fn set_resync(&mut self, resync: &'static str) {
        self.resync = Some(resync);
    }

    /// Runs another build from now on.
    pub fn set_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// The build that runs.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The kernel's digest of a pinned program's instructions.
    pub fn program_tag(&self, topology: &Topology, program: &str) -> Result<String> {
        let shown = self.program(topology, program)?;
        Ok(shown["tag"].as_str().context("a program without a tag")?.to_owned())
    }

    /// What bpftool says of a pinned program.
    pub fn program(&self, topology: &Topology, program: &str) -> Result<serde_json::Value> {
        self.bpftool(topology, &["prog", "show"], program, &[])
    }

    /// What `bpftool COMMAND pinned PIN REST` says, of the pin `name`.
    pub fn bpftool(
        &self,
        topology: &Topology,
        command: &[&str],
        name: &str,
        rest: &[&str],
    ) -> Result<serde_json::Value> {
        let pin = format!("/sys/fs/bpf/sluice/v{SCHEMA_VERSION}/{}/{name}", self.gateway_id);
        let mut bpftool = self.confined(topology, Path::new("/usr/sbin/bpftool"));
        bpftool.arg("-j").args(command).args(["pinned", &pin]).args(rest);
        let output = bpftool.output().context("running bpftool")?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("bpftool: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The container's mount namespace, for other processes while this one lives.
    pub fn mounts_path(&self) -> PathBuf {
        self.sandbox.mounts_path()
    }

    /// Folders of gateways in the BPF file system whose names begin with `test`.
    pub fn pinned_gateways(&self, topology: &Topology) -> Result<String> {
        let mut find = self.confined(topology, Path::new("/usr/bin/find"));
        let output = find.args(["/sys/fs/bpf", "-name", "test*", "-type", "d"]).output();
        Ok(String::from_utf8_lossy(&output.context("listing the BPF file system")?.stdout).into_owned())
    }

    /// Starts the daemon and waits until it serves the file that is in place.
    pub fn start(&mut self, topology: &Topology) -> Result<()> {
        ensure!(self.child.is_none(), "the daemon runs already");
        let folder = self.folder();
        let log =
            File::options().create(true).append(true).open(folder.join("log")).context("opening the log")?;
        let mut command = self.command(topology, "run");
        command.args(["--config", &format!("/run/{FOLDER}/gateway.yaml")]);
        command.args(self.resync.into_iter().flat_map(|resync| ["--resync", resync]));
        command.stdout(log.try_clone().context("sharing the log")?).stderr(log);
        // A terminal's signals are for whoever started it, as with a container.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        self.ready(None)
    }

    /// A command of the gateway's command line, in the container: `status`, `flows`, `cleanup`, ...
    pub fn command(&self, topology: &Topology, name: &str) -> Command {
        let mut command = self.sandbox.command(&topology.pod, &self.binary);
        command.arg(name).args([
            "--runtime-dir",
            &format!("/run/{FOLDER}"),
            "--gateway-id",
            &self.gateway_id,
        ]);
        command
    }

    /// Any other program, confined in the same way.
    pub fn confined(&self, topology: &Topology, program: &Path) -> Command {
        self.sandbox.command(&topology.pod, program)
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("no daemon runs")?.id())
    }

    /// Sends `signal` and waits for the end.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        let mut child = self.child.take().context("no daemon runs")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to the daemon"))?;
        let status = wait::until("the daemon's end", wait::PATIENCE, || Ok(child.try_wait()?));
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = status?;
        ensure!(
            status.success() || status.signal() == Some(signal as i32),
            "the daemon ended with {status} after {signal}:\n{}",
            self.log_tail()
        );
        Ok(status)
    }

    /// Puts a gateway file in place as the kubelet does: a folder of its own, to which `..data` leads by an atomic rename.
    pub fn write_config_map(&mut self, text: &str, revision: u32) -> Result<()> {
        let folder = self.folder();
        let (data, next) = (format!("..{revision}"), folder.join("..data_tmp"));
        fs::create_dir(folder.join(&data)).context("making the ConfigMap's folder")?;
        fs::write(folder.join(&data).join("gateway.yaml"), text).context("writing the ConfigMap's file")?;
        symlink(&data, &next).context("leading to the ConfigMap's folder")?;
        fs::rename(&next, folder.join("..data")).context("putting the ConfigMap in place")?;
        let file = folder.join("gateway.yaml");
        if !file.is_symlink() {
            symlink("..data/gateway.yaml", &next).context("leading to the ConfigMap's file")?;
            fs::rename(&next, &file).context("putting the gateway file in place")?;
        }
        text.clone_into(&mut self.text);
        Ok(())
    }

    /// Waits until the file that is in place is in force.
    pub fn wait_in_force(&mut self, after: u64) -> Result<()> {
        self.ready(Some(after))
    }

    /// Counts the edits that are in force.
    pub fn generation(&self) -> Result<u64> {
        Ok(self.status()?.config.map_or(0, |config| config.generation))
    }

    /// What the daemon says of itself. Asked twice, since tests that run side by side can starve a machine for seconds.
    pub fn status(&self) -> Result<Status> {
        let ask = || admin::get(&self.folder().join("gateway.sock"), "/status");
        let answer = ask().or_else(|_| ask())?;
        serde_json::from_slice(&answer.body).context("reading the daemon's status")
    }

    /// Packets dropped for `reason`, of all CPUs.
    pub fn dropped(&self, reason: sluice_gateway_ebpf::verdict::Drop) -> Result<u64> {
        let status = self.status()?;
        let found = status.drops.iter().find(|drop| drop.reason == reason.name());
        found.map(|drop| drop.packets).with_context(|| format!("no counter of {}", reason.name()))
    }

    /// Puts a gateway file in place, as an atomic replacement, and returns at once.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let folder = self.folder();
        fs::write(folder.join("new.yaml"), text).context("writing the gateway file")?;
        fs::rename(folder.join("new.yaml"), folder.join("gateway.yaml"))
            .context("putting the gateway file in place")?;
        text.clone_into(&mut self.text);
        Ok(())
    }

    /// Edits what is served, and returns when the edit is in force.
    pub fn edit(&mut self, topology: &Topology, spec: &Spec) -> Result<()> {
        let text = gateway_file(spec, topology.families())?;
        if text == self.text {
            return Ok(());
        }
        let before = self.generation()?;
        self.write(&text)?;
        self.ready(Some(before))
    }

    /// Removes what Sluice made, with its own command.
    pub fn cleanup(&self, topology: &Topology) -> Result<()> {
        let output = self.command(topology, "cleanup").output().context("starting cleanup")?;
        ensure!(output.status.success(), "cleanup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn folder(&self) -> PathBuf {
        self.sandbox.run_dir().join(FOLDER)
    }

    /// Waits until the daemon serves; with `after`, a later edit than that generation.
    fn ready(&mut self, after: Option<u64>) -> Result<()> {
        let mut last = String::new();
        let wanted = wanted(&config::parse("gateway.yaml", &self.text).context("reading the gateway file")?);
        let socket = self.folder().join("gateway.sock");
        let child = self.child.as_mut().context("no daemon runs")?;
        let waited = wait::until("the gateway is ready", START, || {
            if let Some(status) = child.try_wait().context("looking after the daemon")? {
                bail!("the daemon ended with {status}");
            }
            let status: Status = match admin::get(&socket, "/status") {
                Ok(answer) => serde_json::from_slice(&answer.body).context("reading the daemon's status")?,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(None);
                }
            };
            last = status.not_ready.join("; ");
            let Some(config) = &status.config else { return Ok(None) };
            if let Some(refusal) = &config.refusal {
                bail!("the gateway file was refused: {}", refusal.error);
            }
            // Of several edits at once, only the one that is in place counts.
            let fresh = after.is_none_or(|after| config.generation > after) && served(&status) == wanted;
            Ok((status.ready && fresh && config.last_reload_successful && config.applied_at.is_some())
                .then_some(()))
        });
        waited.with_context(|| format!("{last}\nThe end of its log:\n{}", self.log_tail()))
    }
}

impl GatewayUnderTest for Sluice {
    fn name(&self) -> &'static str {
        "sluice"
    }

    fn serve(&mut self, topology: &Topology, spec: &Spec) -> Result<()> {
        if self.child.is_some() {
            return self.edit(topology, spec);
        }
        self.write(&gateway_file(spec, topology.families())?)?;
        self.start(topology)?;
        confined(self.pid()?)
    }
}

/// Service, protocol, port and targets of a service port.
type Served = BTreeSet<(String, String, u16, BTreeSet<SocketAddr>)>;

/// What the daemon says it serves.
fn served(status: &Status) -> Served {
    let rows = status.services.iter();
    rows.map(|row| {
        (row.service.clone(), row.protocol.clone(), row.port, row.targets.iter().copied().collect())
    })
    .collect()
}

/// What a gateway file asks for.
fn wanted(config: &config::Config) -> Served {
    let ports =
        config.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    ports
        .map(|(service, port)| {
            let protocol = match port.protocol {
                config::Protocol::Tcp => "tcp",
                config::Protocol::Udp => "udp",
                config::Protocol::Sctp => "sctp",
            };
            let targets = service.targets.iter().map(|target| SocketAddr::new(*target, port.target_port));
            (service.name.clone(), protocol.to_owned(), port.port, targets.collect())
        })
        .collect()
}

impl Drop for Sluice {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the end of the gateway's log:\n{}", self.log_tail());
        }
    }
}

/// The binary that was built together with this program: beside it, or above it if this is a test in `target/<profile>/deps`.
pub(super) fn binary() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program's own path")?;
    let mut places = program.ancestors().skip(1).take(2).map(|folder| folder.join("sluice-gateway"));
    places.find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no sluice-gateway near {}: run the tests by `cargo xtask test netns`, or `cargo build -p sluice-gateway` \
             first",
            program.display()
        )
    })
}

/// Whether the process has the four capabilities and no others: a test that runs with more proves nothing.
fn confined(pid: u32) -> Result<()> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("reading the daemon's capabilities")?;
    let want = format!("{:016x}", CAPABILITIES.iter().fold(0_u64, |mask, bit| mask | 1 << bit));
    for field in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let got = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        ensure!(got == Some(want.as_str()), "{field} {got:?}, expected {want}");
    }
    Ok(())
}

/// The gateway file that serves `spec`.
pub fn gateway_file(spec: &Spec, families: &[Family]) -> Result<String> {
    let mut timeouts = file::Timeouts::default();
    for (name, seconds) in &spec.timeouts {
        let slot = match *name {
            "tcpHalfOpen" => &mut timeouts.tcp_half_open,
            "tcpEstablished" => &mut timeouts.tcp_established,
            "tcpFin" => &mut timeouts.tcp_fin,
            "tcpTimeWait" => &mut timeouts.tcp_time_wait,
            "tcpClosed" => &mut timeouts.tcp_closed,
            "udpUnreplied" => &mut timeouts.udp_unreplied,
            "udpStream" => &mut timeouts.udp_stream,
            other => bail!("no timeout is called {other}"),
        };
        *slot = Some(format!("{seconds}s"));
    }
    let gateway = file::Gateway {
        timeouts: Some(timeouts),
        max_flows: spec.max_flows,
        // A limit would make what is observed depend on the machine's speed.
        attach: spec.attach,
        icmp_errors_per_second: spec.icmp_errors_per_second.or(Some(1_000_000)),
        ..file::Gateway::default()
    };
    let services = spec.services.iter().enumerate().map(|(index, service)| file::Service {
        name: service.name.clone(),
        vips: families
            .iter()
            .map(|family| {
                let plan = family.plan();
                let vip = if index == 0 { plan.vip } else { plan.other_vip };
                file::Vip {
                    address: format!("{vip}/{}", plan.external_prefix),
                    gateway: service.has_router.then(|| plan.gateway.to_string()),
                }
            })
            .collect(),
        targets: families.iter().map(|family| service.cluster_ip.address(*family).to_string()).collect(),
        ports: service
            .ports
            .iter()
            .map(|port| file::Port {
                name: None,
                protocol: match port.protocol {
                    Protocol::Tcp => config::Protocol::Tcp,
                    Protocol::Udp => config::Protocol::Udp,
                },
                port: port.port,
                target_port: Some(port.target_port),
            })
            .collect(),
        snat: Vec::new(),
        source_ranges: service.source_ranges.iter().map(ToString::to_string).collect(),
    });
    let file =
        file::File { version: file::File::VERSION, gateway: Some(gateway), services: services.collect() };
    file.to_yaml().context("writing the gateway file")
}
