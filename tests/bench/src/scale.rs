//! What grows with the configuration and with the number of flows: service ports, source ranges, memory, the sweep.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::cpu::{Awake, process_time};
use sluice_bench::report::Section;
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::traffic::{Workload, service};
use sluice_figures::{Goal, Phase};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{Sluice, Spec};
use sluice_tests::topology::{External, Topology};
use sluice_tests::wait;

use crate::Effort;

const SECTION: Section = Section("scale");
const CASE: &str = "sluice tc";
/// Source ranges, beside the one that the clients are in.
const RANGES: u8 = 100;
const MILLION: Workload = Workload { flows: 1_000_000, ports: 32, stamped: true, ..Workload::USUAL };
/// The most memory that the daemon may take, MiB.
const MEMORY: u64 = 64;

/// Measures all of it.
///
/// # Errors
/// If something does not work, or what arrives is not what it should be.
pub fn run(effort: Effort) -> Result<()> {
    configuration(effort)?;
    memory()?;
    sweep(effort)
}

fn spec(ports: u16) -> Spec {
    Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(ports) }
}

/// Packets per second with more ports and with source ranges, as a multiple of one port without.
fn configuration(effort: Effort) -> Result<()> {
    let mut phase = Phase::begin("service ports and source ranges", 1);
    let mut guarded = spec(1);
    for service in &mut guarded.services {
        service.source_ranges = ranges()?;
    }
    let kinds = [("1 port", spec(1), 1), ("100 ports", spec(100), 100), ("1000 ports", spec(1000), 1000)];
    let kinds: Vec<_> = kinds.into_iter().chain([("source ranges", guarded, 1)]).collect();
    let mut rigs = Vec::new();
    for (_, spec, ports) in &kinds {
        let mut rig = Rig::new(Contender::SluiceTc, External::Macvlan, Peer::Plain, spec)?;
        rig.choose(Workload { ports: *ports, ..Workload::USUAL })?;
        rigs.push(rig);
    }
    let found = interleaved(&mut rigs, effort.rounds, |rig| Ok(rig.measure(effort.time)?.rate()))?;
    for ((name, ..), rounds) in kinds.iter().zip(&found) {
        SECTION.rounds(name, CASE, &rounds.times(1e-6), "M/s", None);
    }
    for ((name, ..), rounds) in kinds.iter().zip(&found).skip(1) {
        SECTION.ratio(&format!("{name} beside 1 port"), &rounds.beside(&found[0]), Goal::at_least(0.97));
    }
    phase.done(1);
    Ok(())
}

/// Ranges that nobody is in, and one that the clients are in.
fn ranges() -> Result<Vec<IpNet>> {
    let others = (0..RANGES).map(|number| Ok(Ipv4Net::new([198, 18, number, 0].into(), 24)?.into()));
    let clients = Family::ALL.map(|family| Ok(family.plan().external_subnet()));
    others.chain(clients).collect()
}

/// Kernel memory of a flow, in each family.
fn memory() -> Result<()> {
    let mut phase = Phase::begin("memory", Family::ALL.len());
    const FLOWS: [u32; 2] = [1 << 10, 1 << 20];
    for (done, (family, goal)) in Family::ALL.into_iter().zip([200_u64, 300]).enumerate() {
        phase.done(done);
        let bytes = FLOWS.map(|flows| -> Result<u64> {
            let topology = Topology::builder().families(&[family]).build()?;
            let spec = Spec { max_flows: Some(flows), ..service(1) };
            let mut serving = Contender::SluiceTc.serve(&topology, &spec)?;
            Ok(serving.sluice()?.status()?.map_memory_bytes)
        });
        let [few, many] = bytes;
        let each = (many? - few?) as f64 / f64::from(FLOWS[1] - FLOWS[0]);
        let figure =
            format!("kernel memory of a flow, {}", if family == Family::V4 { "IPv4" } else { "IPv6" });
        SECTION.value(&figure, CASE, each, "B", Some(Goal::at_most(goal)));
    }
    Ok(())
}

/// What the daemon takes for a million flows, and what the packets notice of it. A stopped process sweeps nothing.
fn sweep(effort: Effort) -> Result<()> {
    /// Packets per second meanwhile.
    const LOAD: f64 = 200_000.0;
    /// The sweep works each few milliseconds. Short enough that most turns are spared by what keeps a virtual machine's core from running
    /// for milliseconds, once a second or so, which is all that longer turns would tell of.
    const TURN: Duration = Duration::from_millis(250);
    /// Turns of each kind in a round.
    const TURNS: usize = 8;
    let mut phase = Phase::begin("sweep of 1 M flows", effort.rounds);
    let spec = Spec { max_flows: Some(1 << 20), ..spec(MILLION.ports) };
    let mut rig = Rig::new(Contender::SluiceTc, External::Macvlan, Peer::Plain, &spec)?;
    rig.choose(MILLION)?;
    let pid = rig.serving().sluice()?.pid()?;
    // Whatever the daemon will ever hold for the flows, it holds after a pass.
    let flows = u64::from(MILLION.flows);
    wait::until("the sweep has seen all flows", Duration::from_secs(90), || {
        Ok((swept(rig.serving().sluice()?)? >= flows).then_some(()))
    })?;
    let memory = peak_memory(pid)?;
    SECTION.value(
        "the daemon's memory with 1 M flows, at most",
        CASE,
        memory,
        "MiB",
        Some(Goal::at_most(MEMORY)),
    );
    rig.steer()?;
    let _awake = Awake::of(Rig::OTHER_CPU)?;
    let (mut on, mut off, mut share) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..effort.rounds * TURNS {
        phase.done(round / TURNS);
        let turns = [true, false];
        for sweeps in if round % 2 == 0 { turns } else { [false, true] } {
            let stopped = (!sweeps).then(|| Stopped::new(pid)).transpose()?;
            let (before, cpu) = (rig.latencies()?, process_time(pid)?);
            rig.pace(LOAD, TURN)?;
            let p999 = rig.latencies()?.since(&before).quantile(0.999);
            if sweeps {
                share.0.push((process_time(pid)? - cpu).as_secs_f64() / TURN.as_secs_f64() * 100.0);
            }
            drop(stopped);
            if sweeps { &mut on } else { &mut off }.0.push(p999);
        }
    }
    SECTION.rounds("p99.9 with 1 M flows, sweep on", CASE, &on, "us", None);
    SECTION.rounds("p99.9 with 1 M flows, sweep off", CASE, &off, "us", None);
    SECTION.ratio("p99.9, sweep on beside off", &on.beside(&off), Goal::at_most(1.05));
    SECTION.rounds("the daemon's part of a core, sweep on", CASE, &share, "%", Some(Goal::at_most(5_u64)));
    Ok(())
}

/// Flows that the last complete pass has read.
fn swept(sluice: &Sluice) -> Result<u64> {
    Ok(sluice.status()?.flow_tables.iter().map(|table| table.entries).sum())
}

/// The most memory that a process has had in RAM, MiB.
fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading the daemon's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM")?;
    Ok((kilobytes / 102.4).round() / 10.0)
}

/// A process that does nothing until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).context("a process id")?);
        kill(pid, Signal::SIGSTOP).context("stopping the daemon")?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
