//! A gateway in its container, as a pod of Sluice's controller has it.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sluice_gateway::admin;
use sluice_gateway::status::Status;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{Port, Spec, gateway_file};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::peers::UdpServer;
use sluice_tests::topology::Topology;
use sluice_tests::wait;

use crate::containerd::Containerd;

/// How long a gateway may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The service's UDP ports: each client port makes a flow with each of them.
const PORTS: [u16; 4] = [53, 54, 55, 56];
const FIRST_CLIENT_PORT: u16 = 2000;
/// Longer than it takes to make all flows and to count them.
const UDP_TIMEOUT: u32 = 600;
const CAPABILITIES: [&str; 4] = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON"];

/// A gateway that serves.
pub struct Pod<'a> {
    containerd: &'a Containerd,
    topology: Topology,
    folder: tempfile::TempDir,
    name: String,
    /// From the start of the container until the gateway served.
    pub start_time: Duration,
}

/// Bytes.
pub struct Memory {
    /// What the kernel counts for the container's limit.
    pub pod: u64,
    /// The maps.
    pub maps: u64,
    /// The process' pages in RAM.
    pub process: u64,
    /// Of these, what no file has.
    pub private: u64,
}

impl<'a> Pod<'a> {
    /// Starts a gateway in a network of its own, and waits until it serves.
    pub fn start(containerd: &'a Containerd, image: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let topology = Topology::builder().families(&[Family::V4]).unproxied().build()?;
        let folder = tempfile::tempdir().context("making the pod's folder")?;
        for part in ["config", "run"] {
            fs::create_dir(folder.path().join(part))
                .with_context(|| format!("making the pod's folder {part}"))?;
        }
        let ports = PORTS.map(|port| Port::new(Protocol::Udp, port));
        let spec = Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..Spec::of(&ports) };
        fs::write(folder.path().join("config/gateway.yaml"), gateway_file(&spec, &[Family::V4])?)
            .context("writing the gateway file")?;
        let name = format!("bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut pod = Self { containerd, topology, folder, name, start_time: Duration::ZERO };
        pod.create(image)?;
        let started = Instant::now();
        containerd.run(&["tasks", "start", "--detach", &pod.name])?;
        wait::until("the gateway serves", PATIENCE, || Ok(pod.status().ok().filter(|status| status.ready)))?;
        pod.start_time = started.elapsed();
        Ok(pod)
    }

    fn create(&self, image: &str) -> Result<()> {
        let bind = |part: &str, to: &str, mode: &str| {
            let from = self.folder.path().join(part);
            format!("type=bind,src={},dst={to},options=rbind:{mode}", from.display())
        };
        let network = format!("network:{}", self.topology.pod.path());
        let mounts = [
            bind("config", "/etc/sluice", "ro"),
            bind("run", "/run/sluice", "rw"),
            // The container's own, so that nothing stays on the machine's.
            "type=bpf,src=bpf,dst=/sys/fs/bpf,options=rw".to_owned(),
        ];
        let mut arguments = vec!["containers", "create", "--read-only", "--with-ns", &network];
        arguments.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
        arguments.extend(CAPABILITIES.iter().flat_map(|capability| ["--cap-add", *capability]));
        arguments.extend([image, &self.name]);
        self.containerd.run(&arguments).map(drop)
    }

    fn status(&self) -> Result<Status> {
        admin::get_status(&self.folder.path().join("run/gateway.sock"))
    }

    /// Makes so many flows, and waits until the gateway has counted them.
    pub fn make_flows(&self, flows: u32, mut progress: impl FnMut(usize)) -> Result<()> {
        let plan = Family::V4.plan();
        let _servers = PORTS
            .map(|port| UdpServer::start(&self.topology.backends[0], plan.cluster_ip, port))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let count =
            u16::try_from(flows.div_ceil(PORTS.len() as u32)).context("there are not so many ports")?;
        for index in 0..count {
            let from = SocketAddr::new(plan.client, FIRST_CLIENT_PORT + index);
            let socket =
                self.topology.client.run(|| UdpSocket::bind(from).context("taking a client's port"))?;
            for port in PORTS {
                socket.send_to(b"one more", SocketAddr::new(plan.vip, port)).context("sending a datagram")?;
            }
            progress(usize::from(index + 1) * PORTS.len());
        }
        wait::until("all flows are counted", PATIENCE, || {
            let counted: u64 = self.status()?.flow_tables.iter().map(|table| table.entries).sum();
            Ok((counted >= flows.into()).then_some(()))
        })
    }

    /// The memory now.
    pub fn memory(&self) -> Result<Memory> {
        let tasks = self.containerd.run(&["tasks", "list"])?;
        let pid = tasks
            .lines()
            .find_map(|line| {
                let mut fields = line.split_whitespace();
                (fields.next()? == self.name).then(|| fields.next()).flatten()?.parse::<u32>().ok()
            })
            .context("the gateway's process")?;
        let process =
            fs::read_to_string(format!("/proc/{pid}/status")).context("reading the process' memory")?;
        Ok(Memory {
            pod: charged(pid)?,
            maps: self.status()?.map_memory_bytes,
            process: field(&process, "VmRSS:")?,
            private: field(&process, "RssAnon:")?,
        })
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        for arguments in
            [["tasks", "delete", "--force", &self.name].as_slice(), &["containers", "delete", &self.name]]
        {
            if let Err(error) = self.containerd.run(arguments) {
                eprintln!("removing a container: {error:#}");
            }
        }
    }
}

/// What the control group of a process takes, of either version of control groups.
fn charged(pid: u32) -> Result<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("reading the control groups")?;
    for line in groups.lines() {
        let file = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "memory", group] => format!("/sys/fs/cgroup/memory{group}/memory.usage_in_bytes"),
            ["0", "", group] => format!("/sys/fs/cgroup{group}/memory.current"),
            _ => continue,
        };
        let file = PathBuf::from(file);
        if file.exists() {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            return text.trim().parse().context("a number of bytes");
        }
    }
    bail!("no control group counts the memory of process {pid}")
}

/// A field of `/proc/PID/status`, which are in KiB.
fn field(status: &str, name: &str) -> Result<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(value.with_context(|| format!("no {name} of the process"))? << 10)
}
