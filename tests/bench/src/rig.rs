//! A contender in a network of its own, with generator and sink.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sluice_bench_ebpf::MOST_FLOWS;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Spec;
use sluice_tests::netns::Netns;
use sluice_tests::topology::{External, Topology};

use crate::contender::{Contender, Serving};
use crate::cpu::{CoreTime, Pinned};
use crate::latencies::Latencies;
use crate::programs::{Programs, ifindex, judge};
use crate::traffic::Workload;

/// What is at the other end of the pod's `eth0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A device as it is created, without XDP and GRO, as a pod's peer usually is. The sink is behind it, in the stack.
    Plain,
    /// A native XDP program, the sink: the device then takes packets by NAPI.
    Napi,
}

/// A network with one contender in its pod.
pub struct Rig {
    contender: Contender,
    external: External,
    topology: Topology,
    serving: Serving,
    programs: Programs,
    workload: Workload,
    generation: u32,
    /// Index of the device that packets come from.
    device: u32,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Packets that arrived.
    pub packets: u64,
    /// Their bytes, with the Ethernet header.
    pub bytes: u64,
    /// Packets that were made and did not arrive.
    pub lost: u64,
    /// How long the core took for it.
    pub time: Duration,
}

impl Run {
    /// Packets per second of the core.
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.time.as_secs_f64()
    }

    /// The part of the packets that did not arrive.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / (self.packets + self.lost).max(1) as f64
    }
}

impl Rig {
    /// The CPU that the generator runs on, and all that it sets off.
    pub const CPU: usize = 1;
    /// The core that [`Rig::steer`] gives the packets to.
    pub const OTHER_CPU: usize = 0;
    /// Packets of one call of the generator.
    const CHUNK: u32 = 1 << 15;
    /// More than this part of the packets must not get lost: it would be no throughput that anybody wants.
    const MOST_LOST: f64 = 0.05;

    /// Builds the network, and lets the contender serve.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub fn new(contender: Contender, external: External, peer: Peer, spec: &Spec) -> Result<Self> {
        let what = || format!("preparing {}", contender.name());
        Self::build(contender, external, peer, spec).with_context(what)
    }

    fn build(contender: Contender, external: External, peer: Peer, spec: &Spec) -> Result<Self> {
        ensure!(!contender.is_xdp() || external == External::Veth, "a macvlan has no native XDP");
        let topology = Topology::builder().external(external).cluster_mtu(1500).build()?;
        let mut programs = Programs::load(if contender.remembers() { MOST_FLOWS } else { 1 })?;
        match contender {
            Contender::DropXdp => {}
            _ if peer == Peer::Napi => programs.attach_xdp("sink_xdp", &topology.node, "pod0")?,
            _ => programs.attach_tc("sink_tc", &topology.node, "pod0")?,
        }
        if let IpAddr::V4(neighbour) = Family::V4.plan().node {
            programs.redirect_to(&topology.pod, "eth0", neighbour)?;
        }
        match contender.program() {
            Some(name) if contender.is_xdp() => programs.attach_xdp(name, &topology.pod, "net1")?,
            Some(name) => programs.attach_tc(name, &topology.pod, "net1")?,
            None => {}
        }
        let serving = contender.serve(&topology, spec)?;
        let (netns, device) = entrance(contender, external, &topology);
        let device = ifindex(netns, device)?;
        let workload = Workload::USUAL;
        Ok(Self { contender, external, topology, serving, programs, workload, generation: 0, device })
    }

    /// Who serves.
    pub const fn contender(&self) -> Contender {
        self.contender
    }

    /// What serves.
    pub const fn serving(&mut self) -> &mut Serving {
        &mut self.serving
    }

    /// What the kernel says of one of the gateway's programs.
    ///
    /// # Errors
    /// If no gateway of ours serves here.
    pub fn program(&mut self, name: &str) -> Result<serde_json::Value> {
        self.serving.sluice()?.program(&self.topology, name)
    }

    /// Chooses what is sent, and sends each flow's first packets: established flows are measured.
    ///
    /// # Errors
    /// If what arrives is not what it should be.
    pub fn choose(&mut self, workload: Workload) -> Result<Run> {
        self.announce(workload)?;
        self.send(workload.flows.max(1000) * 2)
    }

    /// Chooses what is sent, and sends nothing yet.
    ///
    /// # Errors
    /// If the kernel refuses to write a map.
    pub fn announce(&mut self, workload: Workload) -> Result<()> {
        self.workload = workload;
        self.generation += 1;
        let translation = self.contender.translation();
        let device = if self.contender.is_xdp() { self.device } else { 0 };
        let traffic = workload.traffic(translation, device);
        self.programs.prepare(traffic, workload.expected(translation, self.generation))
    }

    /// Sends for `time`, as fast as it goes.
    ///
    /// # Errors
    /// If what arrives is not what it should be, or too little does.
    pub fn measure(&mut self, time: Duration) -> Result<Run> {
        let run = self.counted(|rig| {
            let (started, mut sent) = (Instant::now(), 0);
            while started.elapsed() < time {
                rig.generate(Self::CHUNK)?;
                sent += u64::from(Self::CHUNK);
            }
            Ok(sent)
        })?;
        if run.loss() > Self::MOST_LOST {
            bail!("{}: {:.1} % of the packets were lost", self.contender.name(), run.loss() * 100.0);
        }
        Ok(run)
    }

    /// Sends so many packets.
    ///
    /// # Errors
    /// If what arrives is not what it should be.
    pub fn send(&mut self, count: u32) -> Result<Run> {
        self.counted(|rig| rig.generate(count).map(|()| u64::from(count)))
    }

    /// Lets another core do what the pod does with packets: the one that the generator does not run on.
    ///
    /// # Errors
    /// If the kernel has no receive packet steering.
    pub fn steer(&self) -> Result<()> {
        let (netns, device) = entrance(self.contender, self.external, &self.topology);
        let file = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
        let script = format!("mount -t sysfs sysfs /sys && echo {:x} > {file}", 1 << Self::OTHER_CPU);
        netns.output("unshare", &["--mount", "sh", "-c", &script]).map(drop)
    }

    /// Sends `rate` packets per second for `time`, at equal intervals.
    ///
    /// # Errors
    /// If what arrives is not what it should be.
    pub fn pace(&mut self, rate: f64, time: Duration) -> Result<Run> {
        self.programs.pace((1e9 / rate) as u64)?;
        let run = self.send((rate * time.as_secs_f64()) as u32);
        self.programs.pace(0)?;
        run
    }

    /// Packets by bucket of latency, of all runs so far.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn latencies(&self) -> Result<Latencies> {
        self.programs.latencies().map(Latencies)
    }

    fn counted(&mut self, send: impl FnOnce(&mut Self) -> Result<u64>) -> Result<Run> {
        self.programs.forget()?;
        let _pinned = Pinned::to(Self::CPU)?;
        let clock = CoreTime::of(Self::CPU)?;
        let started = clock.now()?;
        let sent = send(self)?;
        let time = clock.now()?.saturating_sub(started);
        let tally = self.programs.tally()?;
        judge(&tally).with_context(|| format!("what came through {}", self.contender.name()))?;
        ensure!(tally.packets > 0, "nothing came through {}", self.contender.name());
        Ok(Run { packets: tally.packets, bytes: tally.bytes, lost: sent.saturating_sub(tally.packets), time })
    }

    fn generate(&mut self, count: u32) -> Result<()> {
        let (netns, _) = entrance(self.contender, self.external, &self.topology);
        self.programs.generate(netns, self.device, self.workload.largest(), count).map(drop)
    }
}

/// The device that a generated packet is received by, or sent from where an XDP program is to see it.
const fn entrance(contender: Contender, external: External, topology: &Topology) -> (&Netns, &'static str) {
    match external {
        External::Veth if contender.is_xdp() => (&topology.router, "pod1"),
        External::Veth => (&topology.pod, "net1"),
        External::Macvlan => (&topology.node, "ext0"),
    }
}
