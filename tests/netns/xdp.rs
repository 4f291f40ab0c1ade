//! XDP on `net1`: where it is used, what it does, and that nobody notices when it comes and goes.

use std::time::Duration;

use nix::sys::signal::Signal;
use sluice_gateway::config::Attach;
use sluice_gateway::status::AttachMode;
use sluice_tests::gateway::{GatewayUnderTest, Sluice, Spec};
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::{Builder, External};
use sluice_tests::wait::{PATIENCE, until};

use crate::load::Load;

/// The gateway makes a pass every ten seconds, and waits up to five for another try.
const NEXT_TRY: Duration = Duration::from_secs(40);

/// A network in which XDP works, and whose clients send what it takes.
fn with_xdp() -> Builder {
    script::topology().external(External::Veth).takes_xdp().full_checksums()
}

fn spec(attach: Attach) -> Spec {
    Spec { attach: Some(attach), ..script::spec() }
}

/// Waits until packets are taken at `mode`; returns why.
fn taken_at(sluice: &Sluice, mode: AttachMode, patience: Duration) -> String {
    until("the hook is chosen", patience, || {
        let attach = sluice.status()?.attach;
        Ok(attach.filter(|attach| attach.mode == mode).map(|attach| attach.reason))
    })
    .unwrap()
}

/// Packets dropped for any reason.
fn drops(sluice: &Sluice) -> u64 {
    sluice.status().unwrap().drops.iter().map(|drop| drop.packets).sum()
}

#[test]
fn the_mode_changes_under_load_and_no_packet_is_lost() {
    let topology = with_xdp().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec(Attach::Tc)).unwrap();
    assert_eq!(taken_at(&sluice, AttachMode::Tc, PATIENCE), "the gateway file says so");
    let load = Load::start(&topology);
    load.goes_on();
    let before = sluice.status().unwrap();
    assert_eq!(topology.redirected_by_xdp().unwrap(), 0);

    for round in 0..3 {
        sluice.edit(&topology, &spec(Attach::Xdp)).unwrap();
        let reason = taken_at(&sluice, AttachMode::Xdp, PATIENCE);
        assert!(reason.contains("eth0") && reason.contains("10.16.0.1"), "{reason}");
        let program = sluice.status().unwrap().programs.into_iter().find(|program| program.mode == "xdp");
        assert_eq!(program.unwrap().name, "xdp_v4");
        let redirects = topology.redirected_by_xdp().unwrap();
        load.goes_on();
        // Three rounds of 40 streams in each of two families, whose every packet with data is XDP's.
        assert!(topology.redirected_by_xdp().unwrap() >= redirects + 240, "round {round}");

        sluice.edit(&topology, &spec(Attach::Tc)).unwrap();
        taken_at(&sluice, AttachMode::Tc, PATIENCE);
        let redirects = topology.redirected_by_xdp().unwrap();
        load.goes_on();
        assert_eq!(
            topology.redirected_by_xdp().unwrap(),
            redirects,
            "round {round}: taken by XDP after it was taken away"
        );
    }

    let after = sluice.status().unwrap();
    assert_eq!(after.drops, before.drops);
    let opened = |status: &sluice_gateway::status::Status| -> u64 {
        status.services.iter().map(|port| port.counters.flows_opened).sum()
    };
    assert_eq!(opened(&after), opened(&before), "flows were made anew");
    load.finish();
}

#[test]
fn a_way_that_no_longer_arrives_is_left_and_taken_again() {
    let topology = with_xdp().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec(Attach::Auto)).unwrap();
    taken_at(&sluice, AttachMode::Xdp, NEXT_TRY);

    topology.set_takes_xdp(false).unwrap();
    let reason = taken_at(&sluice, AttachMode::Tc, NEXT_TRY);
    assert!(reason.contains("does not arrive") && reason.contains("gro on"), "{reason}");
    assert!(sluice.status().unwrap().problems.is_empty(), "auto takes what there is");
    let load = Load::start(&topology);
    load.goes_on();

    topology.set_takes_xdp(true).unwrap();
    taken_at(&sluice, AttachMode::Xdp, NEXT_TRY);
    let redirects = topology.redirected_by_xdp().unwrap();
    load.goes_on();
    assert!(topology.redirected_by_xdp().unwrap() > redirects);
    load.finish();
}

#[test]
fn what_cannot_be_had_is_a_problem_and_tc_serves() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec(Attach::Xdp)).unwrap();
    let reason = taken_at(&sluice, AttachMode::Tc, PATIENCE);
    assert!(reason.contains("net1 is a macvlan"), "{reason}");
    let status = sluice.status().unwrap();
    assert!(status.ready, "{:?}", status.not_ready);
    assert!(
        status.problems.iter().any(|problem| problem.contains("gateway.attach")),
        "{:?}",
        status.problems
    );
    let load = Load::start(&topology);
    load.goes_on();
    load.finish();
}

/// A device of another namespace may have the index that is right here, so that a map with the right index is not enough.
#[test]
fn the_device_that_is_sent_by_is_told_anew() {
    let topology = with_xdp().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec(Attach::Auto)).unwrap();
    taken_at(&sluice, AttachMode::Xdp, NEXT_TRY);
    let key = ["key", "0", "0", "0", "0"];
    let told = |sluice: &Sluice| sluice.bpftool(&topology, &["map", "lookup"], "xdp_device", &key).unwrap();
    let eth0 = topology.pod.run(|| Ok(nix::net::if_::if_nametoindex("eth0")?)).unwrap();
    let entry = told(&sluice);
    let map = sluice.bpftool(&topology, &["map", "show"], "xdp_device", &[]).unwrap();
    for program in ["xdp_v4", "xdp_v6"] {
        let shown = sluice.program(&topology, program).unwrap();
        assert!(shown["map_ids"].as_array().unwrap().contains(&map["id"]), "{shown} {map}");
    }
    assert_eq!(entry["value"][0], format!("{eth0:#04x}"), "{entry}");

    sluice.stop(Signal::SIGKILL).unwrap();
    let loopback = [&key[..], &["value", "1", "0", "0", "0", "0", "0", "0", "0"]].concat();
    sluice.bpftool(&topology, &["map", "update"], "xdp_device", &loopback).unwrap();
    assert_ne!(told(&sluice), entry);
    sluice.start(&topology).unwrap();
    taken_at(&sluice, AttachMode::Xdp, NEXT_TRY);
    assert_eq!(told(&sluice), entry);
    let redirects = topology.redirected_by_xdp().unwrap();
    let load = Load::start(&topology);
    load.goes_on();
    assert!(topology.redirected_by_xdp().unwrap() > redirects);
    load.finish();
}

#[test]
fn it_outlives_the_loader_and_goes_with_cleanup() {
    let topology = with_xdp().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec(Attach::Auto)).unwrap();
    taken_at(&sluice, AttachMode::Xdp, NEXT_TRY);
    let load = Load::start(&topology);
    load.goes_on();
    let dropped = drops(&sluice);

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        sluice.stop(signal).unwrap();
        let redirects = topology.redirected_by_xdp().unwrap();
        load.goes_on();
        assert!(topology.redirected_by_xdp().unwrap() > redirects, "after {signal}");
        sluice.start(&topology).unwrap();
        load.goes_on();
    }
    taken_at(&sluice, AttachMode::Xdp, PATIENCE);
    assert_eq!(drops(&sluice), dropped);
    load.finish();

    sluice.stop(Signal::SIGTERM).unwrap();
    let on_net1 = || topology.pod.output("ip", &["-j", "link", "show", "dev", "net1"]).unwrap();
    assert!(on_net1().contains("\"xdp\""));
    sluice.cleanup(&topology).unwrap();
    assert!(!on_net1().contains("\"xdp\""), "{}", on_net1());
}
