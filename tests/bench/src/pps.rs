//! Packets per second of one core.

use anyhow::{Context, Result};
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::report::Section;
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::traffic::{Sizes, Workload, service};
use sluice_figures::{Goal, Phase};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Spec;
use sluice_tests::topology::External;

use crate::Effort;

/// Service ports: as many as a million flows to one target take.
const PORTS: u16 = 32;
/// What all are compared with on a macvlan.
const MACVLAN: [Contender; 8] = [
    Contender::SluiceTc,
    Contender::IptablesLegacy,
    Contender::IptablesNft,
    Contender::Nftables,
    Contender::Routing,
    Contender::RedirectTc,
    Contender::NeighbourTc,
    Contender::PeerTc,
];
const VETH: [Contender; 7] = [
    Contender::SluiceXdp,
    Contender::SluiceTc,
    Contender::IptablesLegacy,
    Contender::RedirectTc,
    Contender::RedirectXdp,
    Contender::DeviceXdp,
    Contender::DropXdp,
];
const NAPI_PEER: [Contender; 4] =
    [Contender::SluiceTc, Contender::IptablesLegacy, Contender::RedirectTc, Contender::NeighbourTc];

const ONE: Workload = Workload { flows: 1, ..Workload::USUAL };
const MANY: Workload = Workload { flows: 100_000, ports: PORTS, ..Workload::USUAL };
const MILLION: Workload = Workload { flows: 1_000_000, ports: PORTS, ..Workload::USUAL };
const IMIX: Workload = Workload { sizes: Sizes::Imix, ..Workload::USUAL };
const V6: Workload = Workload { family: Family::V6, ..Workload::USUAL };

/// Traffic by the name of its row. The kernel's connection table has no room for the million.
const TRAFFIC: [(&str, Workload); 6] = [
    ("1000 flows", Workload::USUAL),
    ("1 flow", ONE),
    ("100 000 flows", MANY),
    ("1 M flows", MILLION),
    ("IMIX", IMIX),
    ("IPv6", V6),
];

/// A network for each contender.
///
/// # Errors
/// If one cannot be had.
fn rigs(contenders: &[Contender], external: External, peer: Peer) -> Result<Vec<Rig>> {
    let spec =
        Spec { max_flows: Some(1 << 20), timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(PORTS) };
    contenders.iter().map(|contender| Rig::new(*contender, external, peer, &spec)).collect()
}

/// Measures all of it.
///
/// # Errors
/// If something does not work, or what arrives is not what it should be.
pub fn run(effort: Effort) -> Result<()> {
    macvlan(effort)?;
    napi_peer(effort)?;
    veth(effort)?;
    million(effort)
}

fn macvlan(effort: Effort) -> Result<()> {
    const SECTION: Section = Section("pps, net1 a macvlan");
    let mut phase = Phase::begin("pps on a macvlan", TRAFFIC.len() + 1);
    let mut rigs = rigs(&MACVLAN, External::Macvlan, Peer::Plain)?;
    for (done, (name, workload)) in TRAFFIC.into_iter().enumerate() {
        phase.done(done);
        let takes_part = |rig: &Rig| {
            let contender = rig.contender();
            let knows = workload.family == Family::V4 || contender != Contender::NeighbourTc;
            knows && (workload.flows < MILLION.flows || !contender.has_connection_table())
        };
        let mut taking_part: Vec<&mut Rig> = rigs.iter_mut().filter(|rig| takes_part(rig)).collect();
        let found = turns(&mut taking_part, workload, effort)?;
        tell(SECTION, name, &taking_part, &found);
        if workload == Workload::USUAL {
            tc_goals(SECTION, name, &taking_part, &found)?;
        }
    }
    drop(rigs);
    phase.done(TRAFFIC.len());
    by_traffic(SECTION, Contender::SluiceTc, (External::Macvlan, Peer::Plain), effort)
}

/// Compares a contender's rates for different traffic. All of them take turns, each in a network of its own.
fn by_traffic(
    section: Section,
    contender: Contender,
    (external, peer): (External, Peer),
    effort: Effort,
) -> Result<()> {
    let workloads = [Workload::USUAL, ONE, MILLION, V6];
    let mut rigs = rigs(&[contender; 4], external, peer)?;
    for (rig, workload) in rigs.iter_mut().zip(workloads) {
        rig.choose(workload)?;
    }
    let found = interleaved(&mut rigs, effort.rounds, |rig| Ok(rig.measure(effort.time)?.rate()))?;
    let usual = ("1000 flows", &found[0]);
    beside(section, contender.name(), ("1 flow", &found[1]), usual, 0.8);
    beside(section, contender.name(), ("1 M flows", &found[2]), usual, 0.8);
    beside(section, contender.name(), ("IPv6", &found[3]), ("IPv4", &found[0]), 0.9);
    Ok(())
}

fn veth(effort: Effort) -> Result<()> {
    const SECTION: Section = Section("pps, net1 a veth");
    let mut phase = Phase::begin("pps on a veth", 1);
    let mut all = rigs(&VETH, External::Veth, Peer::Napi)?;
    let mut rigs: Vec<&mut Rig> = all.iter_mut().collect();
    let found = turns(&mut rigs, Workload::USUAL, effort)?;
    tell(SECTION, "1000 flows", &rigs, &found);
    for (other, goal) in [(Contender::IptablesLegacy, 6.0), (Contender::RedirectXdp, 0.9)] {
        let sluice = of(Contender::SluiceXdp, &rigs, &found)?;
        beside(SECTION, "1000 flows", sluice, of(other, &rigs, &found)?, goal);
    }
    drop(all);
    phase.done(1);
    by_traffic(SECTION, Contender::SluiceXdp, (External::Veth, Peer::Napi), effort)
}

/// What a million flows cost, and what remembering so many costs without any NAT: by a lookup in a table of the kernel's, by one in a
/// table of its own, and by a cache line in an array where nothing is searched for.
fn million(effort: Effort) -> Result<()> {
    const SECTION: Section = Section("what a million flows cost");
    use Contender::{
        DeviceXdp, LineTc, LineXdp, LookupTc, LookupXdp, PeerTc, SluiceTc, SluiceXdp, TableTc, TableXdp,
    };
    const TC: [Contender; 5] = [SluiceTc, PeerTc, LookupTc, TableTc, LineTc];
    const XDP: [Contender; 5] = [SluiceXdp, DeviceXdp, LookupXdp, TableXdp, LineXdp];
    let mut phase = Phase::begin("a million flows", 2);
    let hooks = [(TC, External::Macvlan, Peer::Plain), (XDP, External::Veth, Peer::Napi)];
    for (done, (contenders, external, peer)) in hooks.into_iter().enumerate() {
        phase.done(done);
        let pairs: Vec<Contender> = contenders.iter().flat_map(|each| [*each; 2]).collect();
        let mut rigs = rigs(&pairs, external, peer)?;
        for (index, rig) in rigs.iter_mut().enumerate() {
            rig.choose(if index % 2 == 0 { Workload::USUAL } else { MILLION })?;
        }
        // What it adds to a bare redirect counts, so the time of a packet and not the rate.
        let found = interleaved(&mut rigs, effort.rounds, |rig| Ok(1e9 / rig.measure(effort.time)?.rate()))?;
        for (contender, found) in contenders.iter().zip(found.chunks_exact(2)) {
            let [usual, million] = found else { continue };
            SECTION.rounds("a packet, 1000 flows", contender.name(), usual, "ns", None);
            SECTION.rounds("a packet, 1 M flows", contender.name(), million, "ns", None);
            let ratio = usual.beside(million);
            SECTION.rounds("rate with 1 M flows beside 1000", contender.name(), &ratio, "x", None);
        }
    }
    Ok(())
}

fn napi_peer(effort: Effort) -> Result<()> {
    const SECTION: Section = Section("pps, net1 a macvlan, eth0's peer with XDP");
    let mut phase = Phase::begin("pps into a peer with XDP", 1);
    let mut rigs = rigs(&NAPI_PEER, External::Macvlan, Peer::Napi)?;
    let mut rigs: Vec<&mut Rig> = rigs.iter_mut().collect();
    let found = turns(&mut rigs, Workload::USUAL, effort)?;
    tell(SECTION, "1000 flows", &rigs, &found);
    tc_goals(SECTION, "1000 flows", &rigs, &found)?;
    phase.done(1);
    Ok(())
}

fn tc_goals(section: Section, figure: &str, rigs: &[&mut Rig], found: &[Rounds]) -> Result<()> {
    for (other, goal) in [(Contender::IptablesLegacy, 2.4), (Contender::RedirectTc, 0.95)] {
        beside(section, figure, of(Contender::SluiceTc, rigs, found)?, of(other, rigs, found)?, goal);
    }
    Ok(())
}

/// A contender's name and rates.
fn of<'f>(
    contender: Contender,
    rigs: &[&mut Rig],
    found: &'f [Rounds],
) -> Result<(&'static str, &'f Rounds)> {
    let name = contender.name();
    let index = rigs.iter().position(|rig| rig.contender() == contender);
    Ok((name, &found[index.with_context(|| format!("{name} took no part"))?]))
}

/// Packets per second of each, in each round.
fn turns(rigs: &mut [&mut Rig], workload: Workload, effort: Effort) -> Result<Vec<Rounds>> {
    for rig in rigs.iter_mut() {
        rig.choose(workload)?;
    }
    interleaved(rigs, effort.rounds, |rig| Ok(rig.measure(effort.time)?.rate()))
}

fn tell(section: Section, figure: &str, rigs: &[&mut Rig], found: &[Rounds]) {
    for (rig, rounds) in rigs.iter().zip(found) {
        section.rounds(figure, rig.contender().name(), &rounds.times(1e-6), "M/s", None);
    }
}

/// One rate as a multiple of another, which must be at least `goal`.
fn beside(section: Section, figure: &str, one: (&str, &Rounds), other: (&str, &Rounds), goal: f64) {
    let figure = format!("{figure}: {} beside {}", one.0, other.0);
    section.ratio(&figure, &one.1.beside(other.1), Goal::at_least(goal));
}
