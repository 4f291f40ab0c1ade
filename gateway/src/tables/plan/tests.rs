//! Plans carried out on simulated maps.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use proptest::prelude::*;
use sluice_gateway_ebpf::maps::{
    SERVICE_HAS_RANGES, Service as ServiceEntry, ServiceKey, TARGET_ACTIVE, TARGET_DRAINING, TARGET_REMOVED,
    TARGET_UNSET, Target,
};

use super::*;
use crate::{
    config::{Config, Gateway, Port, Protocol, Service, Vip},
    net::{Interface, Interfaces},
};

mod sequences;
mod single;

/// A configuration with `services`, everything else as by default.
fn config(services: Vec<Service>) -> Config {
    Config { gateway: Gateway::default(), services }
}

fn interface(name: &str, index: u32, mtu: u32, addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().map(|text| net(text)).collect();
    Interface { name: name.into(), index, mtu, running: true, addresses, ..Interface::default() }
}

fn network() -> Interfaces {
    Interfaces {
        external: Some(interface("net1", 3, 1500, &[])),
        cluster: Some(interface("eth0", 2, 1400, &["10.16.0.5/16", "fd00:10:16::5/64"])),
        cluster_gateways: vec![ip("10.16.0.1"), ip("fd00:10:16::1")],
        ..Interfaces::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn vip(address: &str) -> Vip {
    Vip { address: net(address), gateway: None }
}

fn port(protocol: Protocol, port: u16) -> Port {
    Port { name: None, protocol, port, target_port: port }
}

fn service(name: &str, vips: &[&str], targets: &[&str], ports: &[Port]) -> Service {
    Service {
        name: name.into(),
        vips: vips.iter().map(|text| vip(text)).collect(),
        snat: vec![],
        targets: targets.iter().map(|text| ip(text)).collect(),
        ports: ports.to_vec(),
        source_ranges: vec![],
    }
}

/// Both families' maps, empty.
fn empty() -> Contents {
    Contents {
        v4: Some(FamilyContents::default()),
        v6: Some(FamilyContents::default()),
        ..Contents::default()
    }
}

/// Carries out one step as the kernel would.
fn apply(maps: &mut Contents, step: &Step) {
    match step {
        Step::Config(config) => maps.config = *config,
        Step::ResetStats(_) => {}
        Step::V4(step) => apply_family(maps.v4.as_mut().unwrap(), step),
        Step::V6(step) => apply_family(maps.v6.as_mut().unwrap(), step),
    }
}

fn apply_family<A: IpBytes>(maps: &mut FamilyContents<A>, step: &FamilyStep<A>) {
    match step {
        FamilyStep::PutService(key, service) => {
            maps.services.insert(*key, *service);
        }
        FamilyStep::DeleteService(key) => {
            assert!(maps.services.remove(key).is_some(), "no such entry: {key:?}")
        }
        FamilyStep::PutTarget(slot, target) => {
            assert!((1..sluice_gateway_ebpf::maps::MAX_TARGETS as u16).contains(slot));
            maps.targets.insert(*slot, *target);
        }
        FamilyStep::PutRange(id, prefix) => assert!(maps.ranges.insert((*id, *prefix)), "already admitted"),
        FamilyStep::DeleteRange(id, prefix) => assert!(maps.ranges.remove(&(*id, *prefix)), "no such range"),
    }
}

/// Applies the whole plan and returns it.
fn settle(maps: &mut Contents, config: &Config, network: &Interfaces, vacant: &Vacant) -> Plan {
    let plan = plan(maps, &Desired::new(config, network), vacant);
    plan.steps.iter().for_each(|step| apply(maps, step));
    plan
}

/// The slots and targets of a key.
fn served<A: IpBytes>(
    maps: &FamilyContents<A>,
    key: &ServiceKey<A>,
) -> Option<(ServiceEntry, Vec<Target<A>>)> {
    let entry = maps.services.get(key)?;
    let slots = (entry.first_target..).take(usize::from(entry.target_count));
    Some((*entry, slots.map(|slot| maps.targets.get(&slot).copied().unwrap_or_default()).collect()))
}

fn key4(address: &str, port: u16, protocol: Protocol) -> ServiceKey<[u8; 4]> {
    let vip = <[u8; 4]>::from_ip(ip(address)).unwrap();
    ServiceKey { vip, port, protocol: protocol.number(), pad: 0 }
}

fn key6(address: &str, port: u16, protocol: Protocol) -> ServiceKey<[u8; 16]> {
    let vip = <[u8; 16]>::from_ip(ip(address)).unwrap();
    ServiceKey { vip, port, protocol: protocol.number(), pad: 0 }
}
