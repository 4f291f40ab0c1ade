//! The same NAT by native nftables, as one would write it today: one map lookup for all ports, in place of a rule for each.

use std::fmt::Write as _;

use anyhow::Result;

use super::iptables::{FORWARDING, route};
use super::{GatewayUnderTest, Spec};
use crate::addresses::Family;
use crate::topology::Topology;

/// The gateway with a map.
#[derive(Debug, Default)]
pub struct Nftables;

impl GatewayUnderTest for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn serve(&mut self, topology: &Topology, spec: &Spec) -> Result<()> {
        topology.pod.sysctl(FORWARDING)?;
        for &family in topology.families() {
            route(topology, spec, family)?;
            topology.pod.feed("nft", &["-f", "-"], &ruleset(spec, family)?)?;
        }
        Ok(())
    }
}

fn ruleset(spec: &Spec, family: Family) -> Result<String> {
    let (ip, address) = match family {
        Family::V4 => ("ip", "ipv4_addr"),
        Family::V6 => ("ip6", "ipv6_addr"),
    };
    let vip = family.plan().vip;
    let (mut elements, mut targets) = (String::new(), String::new());
    for service in &spec.services {
        let cluster_ip = service.cluster_ip.address(family);
        write!(targets, "{cluster_ip}, ")?;
        for port in &service.ports {
            let (protocol, from, to) = (port.protocol.name(), port.port, port.target_port);
            write!(elements, "{vip} . {protocol} . {from} : {cluster_ip} . {to}, ")?;
        }
    }
    Ok(format!(
        "table {ip} gateway {{
            map services {{
                type {address} . inet_proto . inet_service : {address} . inet_service
                elements = {{ {elements} }}
            }}
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                meta l4proto {{ tcp, udp }} dnat {ip} to {ip} daddr . meta l4proto . th dport map @services
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                {ip} daddr {{ {targets} }} masquerade
            }}
        }}"
    ))
}
