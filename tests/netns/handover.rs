//! Packets to targets that are handed to the other end of `eth0`: where that is done, and that nobody notices when it begins and ends.

use std::time::Duration;

use nix::sys::signal::Signal;
use sluice_gateway::status::Handover;
use sluice_tests::gateway::{GatewayUnderTest as _, Sluice};
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::Topology;
use sluice_tests::wait::until;

use crate::load::Load;

/// What was told counts for half a minute.
const LEASE: Duration = Duration::from_secs(60);
/// The other end is looked at once a minute, in passes ten seconds apart.
const NEXT_LOOK: Duration = Duration::from_secs(100);

/// Waits until the choice is made as told; returns why.
fn chosen(sluice: &Sluice, used: bool, patience: Duration) -> String {
    until("the way to the targets is chosen", patience, || {
        let handover = sluice.status()?.handover.filter(|handover| handover.used == Some(used));
        Ok(handover.map(|Handover { reason, .. }| reason))
    })
    .unwrap()
}

/// Packets that `eth0` has sent, as it counts them.
fn sent_by_eth0(topology: &Topology) -> u64 {
    let text = topology.pod.output("ip", &["-j", "-s", "link", "show", "dev", "eth0"]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
}

/// Packets from clients that the gateway has sent on.
fn forwarded(sluice: &Sluice) -> u64 {
    sluice.status().unwrap().services.iter().map(|port| port.counters.forward_packets).sum()
}

/// How many packets the gateway sends on during three rounds of the load, and how many of these by `eth0`.
fn ways(topology: &Topology, sluice: &Sluice, load: &Load) -> (u64, u64) {
    let before = (forwarded(sluice), sent_by_eth0(topology));
    load.goes_on();
    let by_eth0 = sent_by_eth0(topology) - before.1;
    (forwarded(sluice) - before.0, by_eth0)
}

/// Nearly all: the kernel's own questions to neighbours and the daemon's answers to scrapes go by `eth0`.
#[track_caller]
fn assert_handed_over(topology: &Topology, sluice: &Sluice, load: &Load) {
    let (all, by_eth0) = ways(topology, sluice, load);
    assert!(all >= 240 && by_eth0 < all / 10, "{by_eth0} of {all} by eth0");
}

/// Most: the device counts a super-packet as one, and the gateway as the packets that it stands for.
#[track_caller]
fn assert_by_eth0(topology: &Topology, sluice: &Sluice, load: &Load) {
    let (all, by_eth0) = ways(topology, sluice, load);
    assert!(all >= 240 && by_eth0 > all / 3, "{by_eth0} of {all} by eth0");
}

fn serving(topology: &Topology) -> Sluice {
    let mut sluice = Sluice::new(topology).unwrap();
    sluice.serve(topology, &script::spec()).unwrap();
    sluice
}

#[test]
fn it_begins_under_load_and_no_packet_is_lost() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let sluice = serving(&topology);
    let load = Load::start(&topology);
    assert!(chosen(&sluice, true, NEXT_LOOK).contains("veth"));
    assert_handed_over(&topology, &sluice, &load);
    assert!(sluice.status().unwrap().drops.iter().all(|drop| drop.packets == 0));
    load.finish();
}

/// Without load while the discipline changes: the kernel drops what is on its way then.
#[test]
fn what_shapes_traffic_in_the_pod_is_not_passed_by() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let sluice = serving(&topology);
    chosen(&sluice, true, NEXT_LOOK);
    topology.pod.output("tc", &["qdisc", "replace", "dev", "eth0", "root", "pfifo"]).unwrap();
    assert!(chosen(&sluice, false, NEXT_LOOK).contains("pfifo"));
    let load = Load::start(&topology);
    assert_by_eth0(&topology, &sluice, &load);
    load.finish();
    topology.pod.output("tc", &["qdisc", "delete", "dev", "eth0", "root"]).unwrap();
    chosen(&sluice, true, NEXT_LOOK);
    let load = Load::start(&topology);
    assert_handed_over(&topology, &sluice, &load);
    load.finish();
}

#[test]
fn an_end_that_runs_xdp_or_gro_is_not_passed_by() {
    let topology = script::topology().takes_xdp().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let sluice = serving(&topology);
    assert!(chosen(&sluice, false, NEXT_LOOK).contains("GRO"));
    let load = Load::start(&topology);
    assert_by_eth0(&topology, &sluice, &load);
    topology.set_takes_xdp(false).unwrap();
    chosen(&sluice, true, NEXT_LOOK);
    assert_handed_over(&topology, &sluice, &load);
    load.finish();
}

/// Without passes of its own: only the kernel's word that the neighbour has moved can wake the daemon up.
#[test]
fn a_next_hop_that_changes_its_address_is_followed_at_once() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.set_resync("1h");
    sluice.serve(&topology, &script::spec()).unwrap();
    let load = Load::start(&topology);
    chosen(&sluice, true, NEXT_LOOK);
    assert_handed_over(&topology, &sluice, &load);
    for mac in ["02:00:00:00:00:51", "02:00:00:00:00:52"] {
        topology.node.output("ip", &["link", "set", "dev", "pod0", "address", mac]).unwrap();
        load.goes_on();
        assert_handed_over(&topology, &sluice, &load);
    }
    load.finish();
}

#[test]
fn without_a_daemon_it_ends_and_with_one_it_begins_again() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = serving(&topology);
    chosen(&sluice, true, NEXT_LOOK);
    let load = Load::start(&topology);
    load.goes_on();
    sluice.stop(Signal::SIGKILL).unwrap();
    until("the packets go by eth0", LEASE, || {
        let before = sent_by_eth0(&topology);
        load.goes_on();
        Ok((sent_by_eth0(&topology) - before >= 240).then_some(()))
    })
    .unwrap();
    sluice.start(&topology).unwrap();
    chosen(&sluice, true, NEXT_LOOK);
    assert_handed_over(&topology, &sluice, &load);
    load.finish();
}
