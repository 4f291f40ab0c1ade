//! What a packet costs: the time of the core that the pod has to itself; and the programs' own, as the kernel counts it under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::cpu::Awake;
use sluice_bench::report::Section;
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::traffic::{Workload, service};
use sluice_figures::Phase;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Spec;
use sluice_tests::topology::External;

use crate::Effort;

const SECTION: Section = Section("CPU, net1 a macvlan");
const CONTENDERS: [Contender; 6] = [
    Contender::SluiceTc,
    Contender::IptablesLegacy,
    Contender::IptablesNft,
    Contender::Nftables,
    Contender::Routing,
    Contender::RedirectTc,
];
/// Packets per second that each has to do with: less than what any of them can.
const LOAD: f64 = 200_000.0;
/// How long, in one turn.
const TURN: Duration = Duration::from_millis(500);

/// Measures all of it.
///
/// # Errors
/// If something does not work, or what arrives is not what it should be.
pub fn run(effort: Effort) -> Result<()> {
    let mut phase = Phase::begin("CPU", 2);
    let spec = Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(1) };
    let prepare = |contender| {
        let mut rig = Rig::new(contender, External::Macvlan, Peer::Plain, &spec)?;
        rig.choose(Workload::USUAL)?;
        rig.steer()?;
        Ok(rig)
    };
    let mut rigs = CONTENDERS.map(prepare).into_iter().collect::<Result<Vec<Rig>>>()?;
    let awake = Awake::of(Rig::OTHER_CPU)?;
    let found = interleaved(&mut rigs, effort.rounds, |rig| {
        let (run, time) = awake.taken(|| rig.pace(LOAD, TURN))?;
        Ok(time.as_secs_f64() * 1e9 / run.packets as f64)
    })?;
    for (rig, rounds) in rigs.iter().zip(&found) {
        SECTION.rounds(
            "time of the pod's core for a packet, sink included",
            rig.contender().name(),
            rounds,
            "ns",
            None,
        );
    }
    phase.done(1);
    for family in Family::ALL {
        let mut workload = Workload::USUAL;
        workload.family = family;
        let mut rounds = Rounds::default();
        rigs[0].choose(workload)?;
        for _ in 0..effort.rounds {
            rounds.0.push(run_time(&mut rigs[0], family, effort.time)?);
        }
        let figure = format!("forward_{} under load, by the kernel's statistics", family.name());
        SECTION.rounds(&figure, Contender::SluiceTc.name(), &rounds, "ns", None);
    }
    phase.done(2);
    Ok(())
}

/// Nanoseconds of one run of the gateway's program, with the kernel's clock around it.
fn run_time(rig: &mut Rig, family: Family, time: Duration) -> Result<f64> {
    let program = format!("forward_{}", family.name());
    let _counting = enable_stats(Stats::RunTime).context("letting the kernel count run times")?;
    let before = run_stats(rig, &program)?;
    rig.pace(LOAD, time)?;
    let after = run_stats(rig, &program)?;
    ensure!(after.1 > before.1, "the kernel has counted no run of {program}");
    Ok((after.0 - before.0) / (after.1 - before.1))
}

/// Nanoseconds and runs of a program so far.
fn run_stats(rig: &mut Rig, program: &str) -> Result<(f64, f64)> {
    let shown = rig.program(program)?;
    // bpftool is silent about what is zero.
    let number = |field: &str| shown[field].as_f64().unwrap_or_default();
    Ok((number("run_time_ns"), number("run_cnt")))
}
