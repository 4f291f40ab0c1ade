//! Configurations and observations that the unit tests of this module start from.

use super::object::{Address, DefaultRoute, InetSettings, Link, Make, Observed, Port, Seen};
use crate::config::{Config, Gateway, Service, Vip};

pub(super) fn vip(net: &str, gateway: Option<&str>) -> Vip {
    Vip { address: net.parse().unwrap(), gateway: gateway.map(|gateway| gateway.parse().unwrap()) }
}

pub(super) fn config(vips: &[Vip], targets: &[&str]) -> Config {
    Config {
        gateway: Gateway::default(),
        services: vec![Service {
            name: "default/test-service".to_owned(),
            vips: vips.to_vec(),
            snat: Vec::new(),
            targets: targets.iter().map(|target| target.parse().unwrap()).collect(),
            ports: Vec::new(),
            source_ranges: Vec::new(),
        }],
    }
}

/// The seed's service.
pub(super) fn seed() -> Config {
    config(&[vip("172.18.0.18/16", Some("172.18.0.1"))], &["10.109.201.193"])
}

pub(super) fn port(index: u32, name: &str) -> Port {
    Port { index, name: name.to_owned() }
}

/// A pod as the container runtime leaves it: `eth0` is configured, `net1` is bare.
pub(super) fn fresh_pod() -> Observed {
    let link = |index, name, up| Link {
        port: port(index, name),
        mtu: 1500,
        mac: Some([2, 0, 0, 0, 0, 1]),
        up,
        carrier: up,
        inet: Some(InetSettings::default()),
        make: Make::default(),
    };
    let address = |net: &str| Seen {
        object: Address { port: port(2, "eth0"), net: net.parse().unwrap() },
        ours: false,
    };
    let default =
        |gateway: &str, metric| DefaultRoute { index: 2, gateway: gateway.parse().unwrap(), metric };
    Observed {
        links: vec![link(2, "eth0", true), link(3, "net1", false)],
        addresses: vec![address("10.16.0.2/16"), address("fd00:16::2/64")],
        defaults: vec![default("10.16.0.1", 0), default("fd00:16::1", 1024)],
        ..Observed::default()
    }
}
