//! Two CPUs that see the same SYN at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Barrier;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::packet::{self, SYN};
use sluice_tests::peers::{PacketSender, SynListener, TcpServer};
use sluice_tests::topology::{Place, Topology};
use sluice_tests::wait;

const PORT: u16 = 80;
const ROUNDS: u16 = 400;
/// Repeats of each SYN by each CPU.
const REPEATS: usize = 3;

/// Lets the host ignore answers to what its raw sockets sent, instead of resetting the connections.
fn never_reset(netns: &Netns) {
    netns
        .feed(
            "nft",
            &["-f", "-"],
            "table inet quiet { chain output { type filter hook output priority 0; tcp flags rst drop\n}\n}\n",
        )
        .unwrap();
}

/// Sends one SYN for each round, at the same moments as every other sender.
fn send_syns(netns: &Netns, family: Family, place: Place, cpu: usize, barrier: &Barrier) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).unwrap();
    // Of this thread only.
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
    let sender = PacketSender::new(netns, family).unwrap();
    let (source, vip) = (place.address(family), family.plan().vip);
    for round in 0..ROUNDS {
        let from = SocketAddr::new(source, 10_000 + round);
        let to = SocketAddr::new(vip, PORT);
        let segment = packet::tcp(from, to, SYN, sequence(place, round), 0);
        let packet = packet::whole(source, vip, 6, &segment);
        barrier.wait();
        for _ in 0..REPEATS {
            sender.send(&packet, vip).unwrap();
        }
    }
}

/// Tells the connections apart at the backend.
fn sequence(place: Place, round: u16) -> u32 {
    u32::from(round) << 8 | u32::from(place == Place::Far)
}

#[test]
fn a_connection_has_one_mapping_however_many_cpus_see_its_first_packet() {
    one_mapping(Family::V4);
}

#[test]
fn and_so_over_ipv6() {
    one_mapping(Family::V6);
}

fn one_mapping(family: Family) {
    assert!(std::thread::available_parallelism().unwrap().get() >= 2, "this test needs two CPUs");
    let topology = Topology::builder().families(&[family]).unproxied().build().unwrap();
    let _server = TcpServer::start(&topology.backends[0], PORT, 0).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &Spec::of(&[Port::new(Protocol::Tcp, PORT)])).unwrap();
    never_reset(&topology.client);
    never_reset(&topology.far);
    let mut backend = SynListener::new(&topology.backends[0], family).unwrap();

    // Both clients use the same source ports, so that one of the two must be given another.
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for place in Place::ALL {
            for cpu in 0..2 {
                let (netns, barrier) = (topology.client_at(place), &barrier);
                scope.spawn(move || send_syns(netns, family, place, cpu, barrier));
            }
        }
    });

    let mut mappings: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
    wait::until("a SYN of every connection reaches the backend", wait::PATIENCE, || {
        for syn in backend.drain()? {
            mappings.entry(syn.sequence).or_default().insert(syn.from.port());
        }
        Ok((mappings.len() == usize::from(ROUNDS) * 2).then_some(()))
    })
    .unwrap();
    let several: Vec<_> = mappings.iter().filter(|(_, ports)| ports.len() > 1).collect();
    assert!(several.is_empty(), "connections with several mappings: {several:?}");
    let mut seen = BTreeSet::new();
    for (sequence, ports) in &mappings {
        assert!(seen.insert(ports), "the port of connection {sequence} was given twice: {ports:?}");
    }
    let counters = sluice.status().unwrap().services[0].counters;
    assert_eq!(counters.flows_active, u64::from(ROUNDS) * 2, "flows that nobody owns: {counters:?}");
}
