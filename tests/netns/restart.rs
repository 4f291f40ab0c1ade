//! The loader killed, restarted, upgraded and told to end, under load: no packet lost, no flow lost, edits made meanwhile apply.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use sluice_gateway::bpf::Objects;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::peers::{Client, Datagrams, Streams};
use sluice_tests::script::{self, Servers};
use sluice_tests::wait::{PATIENCE, until};

fn vip(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.plan().vip, port)
}

/// Packets dropped for any reason.
fn drops(sluice: &Sluice) -> u64 {
    sluice.status().unwrap().drops.iter().map(|drop| drop.packets).sum()
}

/// A build whose programs differ: the mark of the slow path, which ingress sets and egress looks for, has another value.
fn changed_build(original: &Path, folder: &Path) -> PathBuf {
    const MARK: [u8; 4] = 0x51ce_0000_u32.to_le_bytes();
    let mut bytes = std::fs::read(original).unwrap();
    for object in [Objects::EMBEDDED.v4, Objects::EMBEDDED.v6] {
        // The compiler may keep several copies of a constant.
        let copies: Vec<_> =
            (0..bytes.len() - object.len()).filter(|at| bytes[*at..].starts_with(object)).collect();
        assert!(!copies.is_empty(), "sluice-gateway and this test are of different builds: build both again");
        let mut changed = 0;
        for at in copies.into_iter().flat_map(|start| start..start + object.len() - MARK.len()) {
            if bytes[at..at + MARK.len()] == MARK {
                bytes[at + 2] ^= 1;
                changed += 1;
            }
        }
        assert!(changed > 0, "the programs have no such constant");
    }
    let path = folder.join("sluice-gateway");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_upgrade_to_changed_programs_and_back_is_not_noticed() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &script::spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let original = sluice.binary().to_owned();
    let changed = changed_build(&original, folder.path());

    let places = [(&topology.client, Family::V4), (&topology.far, Family::V6)];
    let streams = places.map(|(netns, family)| Streams::start(netns, vip(family, script::TCP), 100).unwrap());
    let datagrams = places.map(|(netns, family)| Datagrams::start(netns, vip(family, script::UDP)).unwrap());
    let all_go_on = || streams.iter().for_each(|streams| streams.wait_rounds(2).unwrap());
    all_go_on();
    let dropped = drops(&sluice);
    let tag = sluice.program_tag(&topology, "forward_v4").unwrap();

    for (build, same) in [(&changed, false), (&original, true)] {
        sluice.stop(Signal::SIGTERM).unwrap();
        sluice.set_binary(build.clone());
        sluice.start(&topology).unwrap();
        // A daemon is ready as soon as it serves, which it does by its predecessor's programs until its own are in place.
        until("the build's own programs are in place", PATIENCE, || {
            Ok((sluice.program_tag(&topology, "forward_v4")? == tag).eq(&same).then_some(()))
        })
        .unwrap();
        all_go_on();
    }
    let flows: u64 = sluice.status().unwrap().flow_tables.iter().map(|table| table.entries).sum();
    assert!(flows >= 202, "{flows} flows are known: 200 streams and 2 exchanges of datagrams");
    assert_eq!(drops(&sluice), dropped, "packets were dropped: {:?}", sluice.status().unwrap().drops);
    for datagrams in datagrams {
        assert!(datagrams.finish().unwrap() > 0);
    }
    for streams in streams {
        streams.finish().unwrap();
    }
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
