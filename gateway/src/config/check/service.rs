//! One service by itself.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::file;
use super::super::model::{Port, Protocol, Service, Vip};
use super::super::{address, limits};
use super::{Faults, Path};

/// The service at `at`, as far as it is right.
pub(super) fn check(faults: &mut Faults, at: &Path, service: &file::Service) -> Service {
    faults.name(&at.field("name"), &service.name, limits::MAX_SERVICE_NAME);
    let vips = vips(faults, &at.field("vips"), &service.vips);
    // While a VIP is wrong, nothing is known of the families that the service has.
    let known = if vips.len() == service.vips.len() { vips.as_slice() } else { &[] };
    let targets = targets(faults, at, service, known);
    let ports = ports(faults, &at.field("ports"), &service.ports);
    let snat_at = at.field("snat");
    let snat = faults.one_of_each_family(&snat_at, &service.snat);
    for address in &snat {
        check_family(faults, &snat_at, *address, known);
    }
    let source_ranges = source_ranges(faults, &at.field("sourceRanges"), &service.source_ranges, known);
    Service { name: service.name.clone(), vips, snat, targets, ports, source_ranges }
}

fn vips(faults: &mut Faults, at: &Path, texts: &[file::Vip]) -> Vec<Vip> {
    if texts.is_empty() {
        faults.add(at, "no VIP", "add an address for clients, such as `- address: 172.18.0.18/16`");
    }
    let mut vips: Vec<Vip> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.item(index);
        let Some(vip) = vip(faults, &at, text) else { continue };
        if vips.iter().any(|known| known.address.addr() == vip.address.addr()) {
            faults.add(
                &at.field("address"),
                format!("{} is listed twice", vip.address.addr()),
                "list it once",
            );
        } else {
            vips.push(vip);
        }
    }
    vips
}

fn vip(faults: &mut Faults, at: &Path, text: &file::Vip) -> Option<Vip> {
    let here = at.field("address");
    let Ok(address) = text.address.parse::<IpNet>() else {
        faults.add(
            &here,
            format!("`{}` is not an address with a prefix length", text.address),
            "write the VIP with the prefix length of its subnet, such as 172.18.0.18/16",
        );
        return None;
    };
    if let Some(reason) = address::unusable_host(address) {
        faults.add(&here, format!("{address} is {reason}"), "use the address of one host in the subnet");
        return None;
    }
    if address::is_ipv6_link_local(address.addr()) {
        faults.add(
            &here,
            format!("{address} is a link-local address"),
            "use an address that clients can route to",
        );
        return None;
    }
    let gateway = text.gateway.as_ref().and_then(|text| gateway(faults, &at.field("gateway"), text, address));
    Some(Vip { address, gateway })
}

/// A router that the VIP's subnet reaches on-link. IPv6 routers are commonly named by their link-local address.
fn gateway(faults: &mut Faults, at: &Path, text: &str, vip: IpNet) -> Option<IpAddr> {
    let gateway = faults.address(at, text)?;
    let subnet = vip.trunc();
    if gateway == vip.addr() {
        faults.add(
            at,
            format!("{gateway} is the VIP itself"),
            "name the subnet's router, or leave the gateway out",
        );
        return None;
    }
    if vip.addr().is_ipv6() && address::is_ipv6_link_local(gateway) {
        return Some(gateway);
    }
    if !subnet.contains(&gateway) {
        faults.add(
            at,
            format!("{gateway} is outside the VIP's subnet {subnet}"),
            "name a router inside the subnet, or leave the gateway out",
        );
        return None;
    }
    let host = IpNet::new(gateway, subnet.prefix_len()).ok()?;
    if let Some(reason) = address::unusable_host(host) {
        faults.add(at, format!("{gateway} is {reason} {subnet}"), "name the subnet's router");
        return None;
    }
    Some(gateway)
}

/// One target for each family of the VIPs, and none that no VIP can use.
fn targets(faults: &mut Faults, at: &Path, service: &file::Service, vips: &[Vip]) -> Vec<IpAddr> {
    let here = at.field("targets");
    let targets = faults.one_of_each_family(&here, &service.targets);
    for target in &targets {
        check_family(faults, &here, *target, vips);
        if vips.iter().any(|vip| vip.address.addr() == *target) {
            faults.add(
                &here,
                format!("{target} is a VIP of this service"),
                "name what serves the VIP, such as a ClusterIP",
            );
        }
    }
    // Targets that could not be read have been complained about already.
    if targets.len() == service.targets.len() {
        for vip in vips {
            let vip = vip.address.addr();
            if !targets.iter().any(|target| target.is_ipv4() == vip.is_ipv4()) {
                let family = address::family(vip);
                faults.add(
                    &here,
                    format!("no {family} target for the VIP {vip}"),
                    format!("add an {family} address, or remove the VIP"),
                );
            }
        }
    }
    targets
}

/// Complains about an `address` of a family that no VIP has.
fn check_family(faults: &mut Faults, at: &Path, address: IpAddr, vips: &[Vip]) {
    if !vips.is_empty() && !vips.iter().any(|vip| vip.address.addr().is_ipv4() == address.is_ipv4()) {
        let family = address::family(address);
        faults.add(
            at,
            format!("{address}, but the service has no {family} VIP"),
            format!("remove it, or add an {family} VIP"),
        );
    }
}

fn ports(faults: &mut Faults, at: &Path, texts: &[file::Port]) -> Vec<Port> {
    if texts.is_empty() {
        faults.add(at, "no port", "add a port, such as `- port: 80`");
    }
    let mut ports: Vec<Port> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.item(index);
        let port = port(faults, &at, text);
        let same = |known: &Port| (known.port, known.protocol) == (port.port, port.protocol);
        if let Some(first) = ports.iter().position(same) {
            faults.add(
                &at.field("port"),
                format!("{} {} is already item {first} of this list", port.protocol.name(), port.port),
                "list each port once per protocol",
            );
        }
        ports.push(port);
    }
    ports
}

fn port(faults: &mut Faults, at: &Path, text: &file::Port) -> Port {
    if let Some(name) = &text.name {
        faults.name(&at.field("name"), name, limits::MAX_PORT_NAME);
    }
    let target_port = text.target_port.unwrap_or(text.port);
    for (field, value) in [("port", Some(text.port)), ("targetPort", text.target_port)] {
        if value == Some(0) {
            faults.add(&at.field(field), "0 is not a port", "use a number from 1 to 65535");
        }
    }
    if text.protocol == Protocol::Sctp && target_port != text.port {
        faults.add(
            &at.field("targetPort"),
            format!("{target_port} differs from the port {}, which SCTP's checksum covers", text.port),
            "use the same port on both sides",
        );
    }
    Port { name: text.name.clone(), protocol: text.protocol, port: text.port, target_port }
}

fn source_ranges(faults: &mut Faults, at: &Path, texts: &[String], vips: &[Vip]) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.item(index);
        let Ok(range) = text.parse::<IpNet>() else {
            faults.add(&at, format!("`{text}` is not a network"), "write a network such as 203.0.113.0/24");
            continue;
        };
        if range != range.trunc() {
            faults.add(
                &at,
                format!("{range} has bits beyond its prefix length"),
                format!("write {} or {}/{}", range.trunc(), range.addr(), range.max_prefix_len()),
            );
            continue;
        }
        check_family(faults, &at, range.addr(), vips);
        if seen.insert(range) {
            ranges.push(range);
        }
    }
    ranges
}
