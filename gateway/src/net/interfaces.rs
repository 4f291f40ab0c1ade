//! The two interfaces and the next hops: what the programs and their maps are told about the network.

use std::net::IpAddr;

use ipnet::IpNet;

use super::object::{Link, Observed};
use crate::config::Gateway;

/// The two interfaces as they are now. Both may be missing: they can appear late, vanish and come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Where clients come from (`net1`).
    pub external: Option<Interface>,
    /// Where targets are (`eth0`).
    pub cluster: Option<Interface>,
    /// Next hops on the cluster interface, at most one of each family; targets of a family without one are on-link.
    pub cluster_gateways: Vec<IpAddr>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Interface index; a device that comes back under its old name has a new one.
    pub index: u32,
    /// MTU, bytes of IP.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// Up and with a carrier.
    pub running: bool,
    /// Its addresses with prefix lengths, link-local ones left out, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

impl Interfaces {
    /// Finds them. Pure.
    pub fn new(gateway: &Gateway, observed: &Observed) -> Self {
        let find = |name| observed.link(name).map(|link| Interface::new(link, observed));
        let cluster = find(&gateway.cluster_interface);
        let cluster_gateways = [false, true]
            .into_iter()
            .filter_map(|ipv6| {
                gateway.cluster_gateways.iter().copied().find(|a| a.is_ipv6() == ipv6).or_else(|| {
                    let index = cluster.as_ref()?.index;
                    let route =
                        observed.defaults.iter().find(|r| r.index == index && r.gateway.is_ipv6() == ipv6)?;
                    Some(route.gateway)
                })
            })
            .collect();
        Self { external: find(&gateway.external_interface), cluster, cluster_gateways }
    }

    /// The next hop towards a target, `None`: the target itself is a neighbour.
    pub fn cluster_gateway(&self, target: IpAddr) -> Option<IpAddr> {
        self.cluster_gateways.iter().copied().find(|gateway| gateway.is_ipv6() == target.is_ipv6())
    }

    /// The source address towards a target unless its service names one: the cluster interface's first global address of
    /// the target's family.
    pub fn snat(&self, target: IpAddr) -> Option<IpAddr> {
        let mut addresses = self.cluster.as_ref()?.addresses.iter().map(IpNet::addr);
        addresses.find(|address| address.is_ipv6() == target.is_ipv6())
    }
}

impl Interface {
    fn new(link: &Link, observed: &Observed) -> Self {
        Self {
            name: link.port.name.clone(),
            index: link.port.index,
            mtu: link.mtu,
            mac: link.mac,
            running: link.up && link.carrier,
            addresses: observed.addresses_of(link.port.index).collect(),
        }
    }
}
