//! A reduced measurement, as a rung of the tests: what arrives is translated correctly, and rates are not absurd. Margins are wide: the
//! figures that matter are those of `cargo xtask bench`, on a machine with nothing beside it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::traffic::{Sizes, Workload, service};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Spec;
use sluice_tests::topology::External;

/// One measurement at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// Rates of contenders that take turns.
fn rates(contenders: &[Contender], external: External, workload: Workload) -> Result<Vec<Rounds>> {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let spec = Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(workload.ports) };
    let rig = |contender: &Contender| {
        // XDP is no way into a peer as a pod usually has it.
        let peer = if contenders.iter().any(|each| each.is_xdp()) { Peer::Napi } else { Peer::Plain };
        let mut rig = Rig::new(*contender, external, peer, &spec)?;
        rig.choose(workload)?;
        Ok(rig)
    };
    let mut rigs = contenders.iter().map(rig).collect::<Result<Vec<Rig>>>()?;
    interleaved(&mut rigs, 5, |rig| Ok(rig.measure(Duration::from_millis(50))?.rate()))
}

#[test]
fn tc_is_faster_than_iptables_and_translates_as_it_should() {
    let contenders = [Contender::SluiceTc, Contender::IptablesLegacy, Contender::RedirectTc];
    let found = rates(&contenders, External::Macvlan, Workload::USUAL).unwrap();
    let ratio = found[0].beside(&found[1]).median();
    assert!(ratio > 1.5, "{ratio:.2} times iptables: {found:?}");
    let ratio = found[0].beside(&found[2]).median();
    assert!((0.4..2.0).contains(&ratio), "{ratio:.2} times a redirect without any NAT: {found:?}");
}

#[test]
fn xdp_is_faster_than_tc_and_translates_as_it_should() {
    let contenders = [Contender::SluiceXdp, Contender::SluiceTc, Contender::RedirectXdp];
    let found = rates(&contenders, External::Veth, Workload::USUAL).unwrap();
    let ratio = found[0].beside(&found[1]).median();
    assert!(ratio > 1.3, "{ratio:.2} times tc: {found:?}");
    let ratio = found[0].beside(&found[2]).median();
    assert!((0.4..1.3).contains(&ratio), "{ratio:.2} times a redirect without any NAT: {found:?}");
}

#[test]
fn every_kind_of_traffic_is_translated() {
    let workloads = [
        Workload { flows: 20_000, ports: 32, ..Workload::USUAL },
        Workload { sizes: Sizes::Imix, ..Workload::USUAL },
        Workload { family: Family::V6, ..Workload::USUAL },
    ];
    for workload in workloads {
        let contenders = [Contender::SluiceTc, Contender::Nftables, Contender::Routing];
        let found = rates(&contenders, External::Veth, workload).unwrap();
        let ratio = found[0].beside(&found[1]).median();
        assert!(ratio > 1.3, "{workload:?}: {ratio:.2} times nftables: {found:?}");
    }
}
