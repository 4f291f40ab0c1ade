//! The original: DNAT and MASQUERADE by iptables, rules and table 100 as the seed prints them.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::{GatewayUnderTest, Spec};
use crate::addresses::Family;
use crate::topology::Topology;

/// The original's gateway.
#[derive(Debug, Default)]
pub struct Iptables {
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
        Self { mended: true, serving: false }
    }

    fn program(&self, topology: &Topology, spec: &Spec, family: Family) -> Result<()> {
        let plan = family.plan();
        let (ip, save) = match family {
            Family::V4 => ("-4", "iptables-restore"),
            Family::V6 => ("-6", "ip6tables-restore"),
        };
        let mut routes = format!(
            "rule add pref 32765 iif net1 lookup 100\nrule add pref 32764 iif eth0 lookup 100\n\
             addr add {vip} dev net1{nodad}\n\
             route add {subnet} dev net1 scope link table 100\nroute add default via {gateway} dev net1 table 100\n",
            vip = plan.vip_net(),
            nodad = if family == Family::V6 { " nodad" } else { "" },
            subnet = plan.external_subnet(),
            gateway = plan.gateway,
        );
        if self.mended {
            writeln!(routes, "rule add pref 32763 from {} lookup 100", plan.vip)?;
        }
        let mut rules = String::from("*nat\n");
        for service in &spec.services {
            let cluster_ip = service.cluster_ip.address(family);
            writeln!(routes, "route add {cluster_ip} via {} dev eth0 table 100", plan.node)?;
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
        topology.pod.feed("ip", &[ip, "-batch", "-"], &routes)?;
        topology.pod.feed(save, &[], &rules).map(drop)
    }
}

impl GatewayUnderTest for Iptables {
    fn name(&self) -> &'static str {
        if self.mended { "iptables (mended)" } else { "iptables" }
    }

    fn serve(&mut self, topology: &Topology, spec: &Spec) -> Result<()> {
        ensure!(!self.serving, "the oracle is programmed once");
        ensure!(spec.services.len() <= 1, "the original serves one Service in a pod");
        topology.pod.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
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
