//! What kube-proxy does on a node: ClusterIPs to backends, chosen per connection.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::addresses::Family;
use crate::netns::Netns;

/// Transport protocols of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As `nft` and iptables spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// As Kubernetes and the gateway file spell it.
    pub const fn kubernetes_name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A ClusterIP of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterIp {
    /// The Service's.
    Main,
    /// The other one.
    Other,
}

impl ClusterIp {
    /// The address.
    pub const fn address(self, family: Family) -> IpAddr {
        match self {
            Self::Main => family.plan().cluster_ip,
            Self::Other => family.plan().other_cluster_ip,
        }
    }
}

/// One port of a ClusterIP.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Whose port.
    pub cluster_ip: ClusterIp,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Indices of the backends that take turns.
    pub backends: Vec<usize>,
    /// The backends' port.
    pub target_port: u16,
}

/// Programs the node.
///
/// # Errors
/// When `nft` fails.
pub fn program(node: &Netns, forwards: &[Forward], families: &[Family]) -> Result<()> {
    if forwards.is_empty() {
        return Ok(());
    }
    let mut rules = String::new();
    for &family in families {
        let ip = match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        writeln!(
            rules,
            "table {ip} kube-proxy {{ chain prerouting {{ type nat hook prerouting priority dstnat;"
        )?;
        for forward in forwards {
            let address = forward.cluster_ip.address(family);
            let (protocol, port, target) = (forward.protocol.name(), forward.port, forward.target_port);
            write!(rules, "{ip} daddr {address} {protocol} dport {port} dnat {ip} to ")?;
            if let [backend] = forward.backends[..] {
                writeln!(rules, "{}", SocketAddr::new(family.plan().backends[backend], target))?;
                continue;
            }
            write!(rules, "numgen inc mod {} map {{ ", forward.backends.len())?;
            for (turn, backend) in forward.backends.iter().enumerate() {
                write!(rules, "{turn} : {} . {target}, ", family.plan().backends[*backend])?;
            }
            writeln!(rules, "}}")?;
        }
        writeln!(rules, "}}\n}}")?;
    }
    node.feed("nft", &["-f", "-"], &rules).map(drop)
}
