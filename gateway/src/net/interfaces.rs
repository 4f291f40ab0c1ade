//! The two interfaces and the next hops: what the programs and their maps are told about the network.

use std::net::IpAddr;

use ipnet::IpNet;

use super::object::{Link, Make, Neighbour, Observed};
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
    /// What the kernel knows of neighbours on the cluster interface.
    pub cluster_neighbours: Vec<Neighbour>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What it is made of.
    pub make: Make,
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
        let external = find(&gateway.external_interface);
        Self { external, cluster, cluster_gateways, cluster_neighbours: Vec::new() }
    }

    /// The Ethernet address of a neighbour on the cluster interface, if it is known.
    pub fn cluster_neighbour(&self, address: IpAddr) -> Option<[u8; 6]> {
        self.cluster_neighbours.iter().find(|neighbour| neighbour.address == address)?.mac
    }

    /// The next hop towards a target, `None`: the target itself is a neighbour.
    pub fn cluster_gateway(&self, target: IpAddr) -> Option<IpAddr> {
        self.cluster_gateways.iter().copied().find(|gateway| gateway.is_ipv6() == target.is_ipv6())
    }

    /// The source address towards a target unless its service names one: the cluster interface's first global address of
    /// the target's family.
    pub fn snat(&self, target: IpAddr) -> Option<IpAddr> {
        let mut addresses = self.cluster.as_ref()?.addresses.iter().map(IpNet::addr);
        addresses.find(|address| match address {
            IpAddr::V4(address) => target.is_ipv4() && !address.is_link_local(),
            IpAddr::V6(address) => target.is_ipv6() && !address.is_unicast_link_local(),
        })
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
            make: link.make.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::object::{DefaultRoute, Seen};
    use crate::net::samples::{fresh_pod, seed};

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

    #[test]
    fn the_configuration_goes_before_the_default_route_per_family() {
        let mut gateway = seed().gateway;
        let observed = fresh_pod();
        let hops = |gateway: &Gateway| {
            let interfaces = Interfaces::new(gateway, &observed);
            [interfaces.cluster_gateway(V4), interfaces.cluster_gateway(V6)]
                .map(|hop| hop.unwrap().to_string())
        };
        assert_eq!(hops(&gateway), ["10.16.0.1", "fd00:16::1"]);
        gateway.cluster_gateways = vec!["fd00:16::9".parse().unwrap()];
        assert_eq!(hops(&gateway), ["10.16.0.1", "fd00:16::9"]);
    }

    #[test]
    fn the_best_default_route_of_the_cluster_interface_counts() {
        let mut observed = fresh_pod();
        let route =
            |index, last, metric| DefaultRoute { index, gateway: IpAddr::from([10, 16, 0, last]), metric };
        observed.defaults = vec![route(3, 7, 0), route(2, 8, 10), route(2, 9, 20)];
        let interfaces = Interfaces::new(&seed().gateway, &observed);
        assert_eq!(interfaces.cluster_gateways, [IpAddr::from([10, 16, 0, 8])]);
    }

    #[test]
    fn the_source_is_the_first_global_address_of_the_family() {
        let mut observed = fresh_pod();
        let mut local = observed.addresses[0].clone();
        local.object.net = "169.254.7.7/16".parse().unwrap();
        observed.addresses.insert(0, Seen { ours: false, ..local });
        let interfaces = Interfaces::new(&seed().gateway, &observed);
        assert_eq!(interfaces.snat(V4), Some(IpAddr::from([10, 16, 0, 2])));
        assert_eq!(interfaces.snat(V6), Some("fd00:16::2".parse().unwrap()));
        observed.links.retain(|link| link.port.name != "eth0");
        let interfaces = Interfaces::new(&seed().gateway, &observed);
        assert_eq!((interfaces.cluster.as_ref(), interfaces.snat(V4)), (None, None));
    }
}
