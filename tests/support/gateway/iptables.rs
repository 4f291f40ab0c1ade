//! The original: DNAT and MASQUERADE by iptables, rules and table 100 as the seed prints them.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::{GatewayUnderTest, Spec};
use crate::addresses::Family;
use crate::topology::Topology;

/// What makes a pod forward packets.
pub const FORWARDING: &[(&str, &str)] =
    &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];

/// The original's gateway.
#[derive(Debug, Default)]
pub struct Iptables {
    /// What stands in the names of its programs, to choose one of the two that exist.
    variant: &'static str,
    mended: bool,
    serving: bool,
}

impl Iptables {
    /// Exactly what the seed shows.
    pub fn seed() -> Self {
        Self::default()
    }

    /// The seed's rules, with its routing faults mended, so that packet handling can be compared where the original's own
    /// replies get lost: what the pod itself sends from the VIP leaves by `net1`, and so do its ICMP errors.
    pub fn mended() -> Self {
        Self { mended: true, ..Self::default() }
    }

    /// The seed's rules by the old kernel interface, whatever the machine's `iptables` is.
    pub fn legacy() -> Self {
        Self { variant: "-legacy", ..Self::default() }
    }

    /// The seed's rules by nftables' interface.
    pub fn nft() -> Self {
        Self { variant: "-nft", ..Self::default() }
    }

    fn program(&self, topology: &Topology, spec: &Spec, family: Family) -> Result<()> {
        let plan = family.plan();
        let restore = match family {
            Family::V4 => format!("iptables{}-restore", self.variant),
            Family::V6 => format!("ip6tables{}-restore", self.variant),
        };
        route(topology, spec, family)?;
        if self.mended {
            let vip = plan.vip.to_string();
            let rule = [flag(family), "rule", "add", "pref", "32763", "from", &vip, "lookup", "100"];
            topology.pod.output("ip", &rule)?;
        }
        let mut rules = String::from("*nat\n");
        for service in &spec.services {
            let cluster_ip = service.cluster_ip.address(family);
            for port in &service.ports {
                writeln!(
                    rules,
                    "-A PREROUTING -p {protocol} -d {vip} --dport {} -j DNAT --to-destination {}",
                    port.port,
                    std::net::SocketAddr::new(cluster_ip, port.target_port),
                    protocol = port.protocol.name(),
                    vip = plan.vip,
                )?;
            }
            writeln!(rules, "-A POSTROUTING -d {cluster_ip} -j MASQUERADE")?;
        }
        rules.push_str("COMMIT\n");
        topology.pod.feed(&restore, &[], &rules).map(drop)
    }
}

/// The VIP and table 100 as the seed prints them, for packets that the kernel routes.
///
/// # Errors
/// When `ip` refuses them.
pub fn route(topology: &Topology, spec: &Spec, family: Family) -> Result<()> {
    let plan = family.plan();
    let mut routes = format!(
        "rule add pref 32765 iif net1 lookup 100\nrule add pref 32764 iif eth0 lookup 100\n\
         addr add {vip} dev net1{nodad}\n\
         route add {subnet} dev net1 scope link table 100\nroute add default via {gateway} dev net1 table 100\n",
        vip = plan.vip_net(),
        nodad = if family == Family::V6 { " nodad" } else { "" },
        subnet = plan.external_subnet(),
        gateway = plan.gateway,
    );
    for service in &spec.services {
        let cluster_ip = service.cluster_ip.address(family);
        writeln!(routes, "route add {cluster_ip} via {} dev eth0 table 100", plan.node)?;
    }
    topology.pod.feed("ip", &[flag(family), "-batch", "-"], &routes).map(drop)
}

/// How `ip` is told the family.
const fn flag(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

impl GatewayUnderTest for Iptables {
    fn name(&self) -> &'static str {
        if self.mended { "iptables (mended)" } else { "iptables" }
    }

    fn serve(&mut self, topology: &Topology, spec: &Spec) -> Result<()> {
        ensure!(!self.serving, "the oracle is programmed once");
        ensure!(spec.services.len() <= 1, "the original serves one Service in a pod");
        topology.pod.sysctl(FORWARDING)?;
        if self.mended {
            topology.pod.sysctl(&[("net/ipv4/icmp_errors_use_inbound_ifaddr", "1")])?;
        }
        for &family in topology.families() {
            self.program(topology, spec, family)?;
        }
        self.serving = true;
        Ok(())
    }
}
