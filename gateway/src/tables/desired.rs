//! What the maps shall serve: the configuration joined with what the network looks like.

use std::{collections::HashSet, fmt, net::IpAddr};

use ipnet::IpNet;
use sluice_gateway_ebpf::maps::{self, ServiceKey, Target};

use super::address::{IpBytes, Prefix};
use crate::{
    config::{Config, Protocol, Service, Vip},
    net::{Interface, Interfaces},
};

/// What the maps shall serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The programs' settings.
    pub config: maps::Config,
    /// Service ports, in the order of the file.
    pub ports: Vec<DesiredPort>,
    /// What cannot be served, and why.
    pub problems: Vec<Problem>,
}

/// One port of one service: one service id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// Whose it is.
    pub name: PortName,
    /// Whether only clients of the ranges may connect; a family without ranges then admits nobody.
    pub restricted: bool,
    /// IPv4.
    pub v4: Side<[u8; 4]>,
    /// IPv6.
    pub v6: Side<[u8; 16]>,
}

/// One family's part of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side<A> {
    /// One entry for each VIP.
    pub entries: Vec<Entry<A>>,
    /// Clients that may connect: no overlaps, ascending.
    pub ranges: Vec<Prefix<A>>,
}

/// A VIP and port with its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<A> {
    /// What clients address.
    pub key: ServiceKey<A>,
    /// Its targets, with `service`, `state` and `generation` still zero. Without any, new flows are refused.
    pub targets: Vec<Target<A>>,
}

/// The name of a service port, for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct PortName {
    /// `<namespace>/<name>` of the service.
    pub service: String,
    /// The port's own name, if it has one.
    pub port_name: Option<String>,
    /// IP protocol number.
    pub protocol: u8,
    /// Port of the VIP.
    pub port: u16,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.service, self.port, protocol_name(self.protocol))
    }
}

/// `tcp`, `udp`, `sctp`; anything else is `unknown`.
pub fn protocol_name(number: u8) -> &'static str {
    [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp"), (Protocol::Sctp, "sctp")]
        .into_iter()
        .find(|(protocol, _)| protocol.number() == number)
        .map_or("unknown", |(_, name)| name)
}

/// Something that the configuration asks for and that is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No source address towards the targets.
    #[error(
        "{vip}: new connections are refused: the cluster interface has no address of this family; give it one or set the service's `snat`"
    )]
    NoSnat {
        /// The service's VIP.
        vip: IpAddr,
    },
    /// No target of the VIP's family.
    #[error("{vip}: new connections are refused: the service has no target of this family")]
    NoTarget {
        /// The service's VIP.
        vip: IpAddr,
    },
    /// Two services want the same VIP and port; the first in the file has it.
    #[error("{port}: not served on {vip}: another service of the file has this address and port")]
    Taken {
        /// The service port.
        port: PortName,
        /// The address in question.
        vip: IpAddr,
    },
    /// The maps of a family are not loaded.
    #[error("{port}: not served over IP{family}: the family's maps are not loaded")]
    NoFamily {
        /// The service port.
        port: PortName,
        /// `v4` or `v6`.
        family: &'static str,
    },
    /// No service id is free.
    #[error(
        "{port}: not served: all {} service ids are in use or rest until their last flow ends; use fewer ports per gateway",
        maps::MAX_SERVICES - 1
    )]
    ServicesFull {
        /// The service port.
        port: PortName,
    },
    /// No room among the entries of a family.
    #[error(
        "{port}: not served on {vip}: services_{family} holds {} entries; use fewer VIPs or ports per gateway",
        maps::MAX_SERVICES
    )]
    EntriesFull {
        /// The service port.
        port: PortName,
        /// The address in question.
        vip: IpAddr,
        /// `v4` or `v6`.
        family: &'static str,
    },
    /// No free run of target slots.
    #[error("{port}: new connections to {vip} are refused: {resting} of {} slots of targets_{family} rest until their last flow ends", maps::MAX_TARGETS - 1)]
    TargetsFull {
        /// The service port.
        port: PortName,
        /// The address in question.
        vip: IpAddr,
        /// `v4` or `v6`.
        family: &'static str,
        /// Slots that wait for flows to end.
        resting: usize,
    },
    /// More source ranges than fit.
    #[error(
        "{port}: nobody is admitted: ranges_{family} holds {} prefixes; shorten the service's source ranges",
        maps::MAX_RANGES
    )]
    RangesFull {
        /// The service port.
        port: PortName,
        /// `v4` or `v6`.
        family: &'static str,
    },
}

impl Desired {
    /// Joins a configuration with the network.
    pub fn new(config: &Config, interfaces: &Interfaces) -> Self {
        let mut problems = Vec::new();
        let mut ports = Vec::new();
        let mut taken = HashSet::new();
        for service in &config.services {
            let v4 = Facts::<[u8; 4]>::new(service, interfaces, &mut problems);
            let v6 = Facts::<[u8; 16]>::new(service, interfaces, &mut problems);
            for port in &service.ports {
                let name = PortName {
                    service: service.name.clone(),
                    port_name: port.name.clone(),
                    protocol: port.protocol.number(),
                    port: port.port,
                };
                let mut free = |vip: &IpAddr| {
                    let free = taken.insert((*vip, name.port, name.protocol));
                    if !free {
                        problems.push(Problem::Taken { port: name.clone(), vip: *vip });
                    }
                    free
                };
                let v4 = v4.side(&name, port.target_port, &mut free);
                let v6 = v6.side(&name, port.target_port, &mut free);
                ports.push(DesiredPort { name, restricted: !service.source_ranges.is_empty(), v4, v6 });
            }
        }
        Self { config: settings(config, interfaces), ports, problems }
    }
}

/// The programs' settings. A missing interface is all zero, and then nothing is forwarded.
fn settings(config: &Config, interfaces: &Interfaces) -> maps::Config {
    let timeouts = &config.gateway.timeouts;
    let (external, cluster) = (interfaces.external.as_ref(), interfaces.cluster.as_ref());
    let index = |interface: Option<&Interface>| interface.map_or(0, |interface| interface.index);
    let mtu = |interface: Option<&Interface>| interface.map_or(0, |interface| interface.mtu);
    maps::Config {
        external_ifindex: index(external),
        cluster_ifindex: index(cluster),
        external_mtu: mtu(external),
        cluster_mtu: mtu(cluster),
        icmp_rate: config.gateway.icmp_errors_per_second,
        pad: 0,
        timeouts: maps::Timeouts {
            tcp_half_open: timeouts.tcp_half_open,
            tcp_established: timeouts.tcp_established,
            tcp_fin: timeouts.tcp_fin,
            tcp_time_wait: timeouts.tcp_time_wait,
            tcp_closed: timeouts.tcp_closed,
            udp_unreplied: timeouts.udp_unreplied,
            udp_stream: timeouts.udp_stream,
            sctp_unreplied: timeouts.sctp_unreplied,
            sctp_established: timeouts.sctp_established,
            pad: 0,
        },
    }
}

/// One family's part of a service, before its ports.
struct Facts<A> {
    vips: Vec<(A, Target<A>)>,
    targets: Vec<A>,
    ranges: Vec<Prefix<A>>,
}

impl<A: IpBytes> Facts<A> {
    fn new(service: &Service, interfaces: &Interfaces, problems: &mut Vec<Problem>) -> Self {
        let pick = |candidates: &[IpAddr]| candidates.iter().find_map(|ip| A::from_ip(*ip));
        let own = interfaces.cluster.iter().flat_map(|cluster| &cluster.addresses);
        let snat = pick(&service.snat).or_else(|| own.map(|net| net.addr()).find_map(A::from_ip));
        let next_hop = pick(&interfaces.cluster_gateways);
        let mut targets: Vec<A> = service.targets.iter().filter_map(|ip| A::from_ip(*ip)).collect();
        let vips: Vec<(A, Target<A>)> =
            service.vips.iter().filter_map(|vip| template(vip, snat, next_hop)).collect();
        if let Some((vip, _)) = vips.first() {
            if targets.is_empty() {
                problems.push(Problem::NoTarget { vip: vip.ip() });
            } else if snat.is_none() {
                problems.push(Problem::NoSnat { vip: vip.ip() });
                targets.clear();
            }
        }
        let ranges = IpNet::aggregate(&service.source_ranges);
        Self { vips, targets, ranges: ranges.into_iter().filter_map(Prefix::from_net).collect() }
    }

    fn side(&self, name: &PortName, target_port: u16, free: &mut impl FnMut(&IpAddr) -> bool) -> Side<A> {
        let entries = self.vips.iter().filter(|(vip, _)| free(&vip.ip())).map(|(vip, template)| Entry {
            key: ServiceKey { vip: *vip, port: name.port, protocol: name.protocol, pad: 0 },
            targets: self
                .targets
                .iter()
                .map(|address| Target {
                    address: *address,
                    port: target_port,
                    vip_port: name.port,
                    protocol: name.protocol,
                    ..*template
                })
                .collect(),
        });
        Side { entries: entries.collect(), ranges: self.ranges.clone() }
    }
}

/// The part of a target that all ports and targets of a VIP share.
fn template<A: IpBytes>(vip: &Vip, snat: Option<A>, next_hop: Option<A>) -> Option<(A, Target<A>)> {
    let address = A::from_ip(vip.address.addr())?;
    let target = Target {
        snat: snat.unwrap_or_default(),
        vip: address,
        vip_mask: A::mask(vip.address.prefix_len()),
        cluster_next_hop: next_hop.unwrap_or_default(),
        external_next_hop: vip.gateway.and_then(A::from_ip).unwrap_or_default(),
        ..Target::default()
    };
    Some((address, target))
}
