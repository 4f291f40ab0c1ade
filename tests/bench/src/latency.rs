//! How long packets take through the pod, under load.
//!
//! The generator has one core; packet steering gives the other to the pod, so that a queue forms before it as before a real one. A packet
//! says when it was made, and the sink, when it came: bursts, the way to the other core and the queue are in the figure. The load is a part of
//! what iptables can do there, the same for all.

use std::time::Duration;

use anyhow::Result;
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::cpu::Awake;
use sluice_bench::report::Section;
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::Rounds;
use sluice_bench::traffic::{Workload, service};
use sluice_figures::{Goal, Phase};
use sluice_tests::gateway::Spec;
use sluice_tests::topology::External;

use crate::Effort;

const SECTION: Section = Section("latency, net1 a macvlan");
const CONTENDERS: [Contender; 5] = [
    Contender::SluiceTc,
    Contender::IptablesLegacy,
    Contender::IptablesNft,
    Contender::Nftables,
    Contender::RedirectTc,
];
const STAMPED: Workload = Workload { stamped: true, ..Workload::USUAL };
const PARTS: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
/// How long the load lasts in one turn.
const TURN: Duration = Duration::from_millis(500);

/// Measures all of it.
///
/// # Errors
/// If something does not work, or what arrives is not what it should be.
pub fn run(effort: Effort) -> Result<()> {
    let mut phase = Phase::begin("latency", 2 * effort.rounds);
    let spec = Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(1) };
    let prepare = |contender| {
        let mut rig = Rig::new(contender, External::Macvlan, Peer::Plain, &spec)?;
        rig.choose(STAMPED)?;
        rig.steer()?;
        Ok(rig)
    };
    let mut rigs = CONTENDERS.map(prepare).into_iter().collect::<Result<Vec<Rig>>>()?;
    let _awake = Awake::of(Rig::OTHER_CPU)?;
    let capacity = capacity(&mut rigs[1], effort.rounds)?;
    SECTION.rounds("capacity of a core", rigs[1].contender().name(), &capacity.times(1e-6), "M/s", None);
    for (turn, share) in [0.5, 0.9].into_iter().enumerate() {
        let rate = capacity.median() * share;
        let mut found = vec![[const { Rounds(Vec::new()) }; PARTS.len()]; rigs.len()];
        for round in 0..effort.rounds {
            phase.done(turn * effort.rounds + round);
            for (rig, found) in rigs.iter_mut().zip(&mut found) {
                let before = rig.latencies()?;
                rig.pace(rate, TURN)?;
                let latencies = rig.latencies()?.since(&before);
                for ((_, part), found) in PARTS.iter().zip(found) {
                    found.0.push(latencies.quantile(*part));
                }
            }
        }
        let load = format!("{:.0} % of iptables-legacy", share * 100.0);
        for (index, (part, _)) in PARTS.iter().enumerate() {
            for (rig, found) in rigs.iter().zip(&found) {
                SECTION.rounds(&format!("{load}: {part}"), rig.contender().name(), &found[index], "us", None);
            }
        }
        if share > 0.5 {
            let p99 = found[0][1].beside(&found[1][1]);
            let title = format!("{load}: p99, sluice tc beside iptables-legacy");
            SECTION.ratio(&title, &p99, Goal::at_most(0.7));
        }
    }
    Ok(())
}

/// Packets per second that the other core can take: the most of which hardly any are lost.
fn capacity(rig: &mut Rig, rounds: usize) -> Result<Rounds> {
    (0..rounds).map(|_| most(rig)).collect::<Result<Vec<f64>>>().map(Rounds)
}

/// Looks for it in halves.
fn most(rig: &mut Rig) -> Result<f64> {
    /// More than any contender's core can take.
    const TOO_MUCH: f64 = 1e6;
    /// The part of the packets that may be lost: a core that is taken away for some milliseconds costs that many.
    const LOST: f64 = 0.02;
    const HALVINGS: usize = 8;
    const TURN: Duration = Duration::from_millis(200);
    let (mut fits, mut too_much) = (0.0, TOO_MUCH);
    for _ in 0..HALVINGS {
        let rate = f64::midpoint(fits, too_much);
        let loss = rig.pace(rate, TURN)?.loss();
        *if loss <= LOST { &mut fits } else { &mut too_much } = rate;
    }
    Ok(fits)
}
