//! The loader killed, restarted and told to end, under load: no packet lost, no flow lost, edits made meanwhile apply.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::peers::{Client, Datagrams, Streams};
use sluice_tests::script::{self, Servers};

fn vip(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.plan().vip, port)
}

/// Packets dropped for any reason.
fn drops(sluice: &Sluice) -> u64 {
    sluice.status().unwrap().drops.iter().map(|drop| drop.packets).sum()
}

#[test]
fn a_killed_loader_is_not_noticed() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    sluice.serve(&topology, &spec).unwrap();

    let places: [(&Netns, Family, usize); 4] = [
        (&topology.client, Family::V4, 60),
        (&topology.far, Family::V4, 60),
        (&topology.client, Family::V6, 40),
        (&topology.far, Family::V6, 40),
    ];
    let streams =
        places.map(|(netns, family, count)| Streams::start(netns, vip(family, script::TCP), count).unwrap());
    let datagrams =
        places.map(|(netns, family, _)| Datagrams::start(netns, vip(family, script::UDP)).unwrap());
    let all_go_on = || streams.iter().for_each(|streams| streams.wait_rounds(2).unwrap());
    all_go_on();
    let dropped = drops(&sluice);

    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        sluice.stop(signal).unwrap();
        all_go_on();
        sluice.start(&topology).unwrap();
        all_go_on();
    }
    let flows: u64 = sluice.status().unwrap().flow_tables.iter().map(|table| table.entries).sum();
    assert!(
        flows >= 204,
        "{flows} flows are known after two restarts: 200 streams and 4 exchanges of datagrams"
    );

    // An edit that is made while no loader runs.
    Client::connect(&topology.client, vip(Family::V4, script::TCP)).unwrap();
    sluice.stop(Signal::SIGKILL).unwrap();
    spec.services[0].ports.retain(|port| port.port != script::DEAF_TCP);
    spec.services[0].ports.push(Port { protocol: Protocol::Tcp, port: 8443, target_port: script::TCP });
    sluice.serve(&topology, &spec).unwrap();
    Client::connect(&topology.client, vip(Family::V4, 8443)).unwrap().echo(b"added meanwhile").unwrap();
    all_go_on();

    assert_eq!(drops(&sluice), dropped, "packets were dropped: {:?}", sluice.status().unwrap().drops);
    for datagrams in datagrams {
        assert!(datagrams.finish().unwrap() > 0);
    }
    for streams in streams {
        streams.finish().unwrap();
    }
}
