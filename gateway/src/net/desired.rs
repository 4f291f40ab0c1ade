//! What the configuration asks of the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::interfaces::Interfaces;
use super::object::{
    Address, Observed, PRIORITY_FROM_CLUSTER, PRIORITY_FROM_EXTERNAL, PRIORITY_FROM_VIP, Port, Route, Rule,
    Selector, Setting,
};
use crate::config::{Config, Vip};

/// Every object that must exist. What is on a missing interface is left out: it is asked for when the interface is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Interfaces that must be up.
    pub up: Vec<Port>,
    /// IPv4 settings that must be on.
    pub settings: Vec<(Port, Setting)>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes, in an order in which the kernel accepts them: a next hop after the prefix that holds it.
    pub routes: Vec<Route>,
    /// Rules.
    pub rules: Vec<Rule>,
}

impl Desired {
    /// Derives it. Pure. No object is listed twice.
    pub fn new(config: &Config, observed: &Observed) -> Self {
        let gateway = &config.gateway;
        let interfaces = Interfaces::new(gateway, observed);
        let port = |name: &str| observed.link(name).map(|link| link.port.clone());
        let external = port(&gateway.external_interface);
        let cluster = port(&gateway.cluster_interface);
        let vips: Vec<Vip> =
            config.services.iter().flat_map(|service| service.vips.iter().copied()).collect();
        let ipv4 = vips.iter().any(|vip| vip.address.addr().is_ipv4());

        let mut desired = Self { rules: rules(config, &vips), ..Self::default() };
        for port in [&cluster, &external].into_iter().flatten() {
            desired.up.push(port.clone());
            if ipv4 {
                desired.settings.push((port.clone(), Setting::Forwarding));
            }
        }
        if let Some(external) = &external {
            if ipv4 {
                desired.settings.push((external.clone(), Setting::PromoteSecondaries));
            }
            for vip in &vips {
                push_new(&mut desired.addresses, Address { port: external.clone(), net: vip.address });
            }
            desired.external_routes(gateway.table, &vips, external);
        }
        if let Some(cluster) = &cluster {
            let on_link: Vec<IpNet> = observed.addresses_of(cluster.index).collect();
            for target in config.services.iter().flat_map(|service| service.targets.iter().copied()) {
                let hop = interfaces.cluster_gateway(target);
                let route = route(gateway.table, IpNet::from(target), hop, cluster, &on_link);
                push_new(&mut desired.routes, route);
            }
        }
        desired
    }

    /// Each VIP's subnet, and one default route per family: a table has only one, so the first VIP with a gateway decides.
    /// The programs send each service's packets to its own gateway; this route is for what the stack itself sends.
    fn external_routes(&mut self, table: u32, vips: &[Vip], external: &Port) {
        let subnets: Vec<IpNet> = vips.iter().map(|vip| vip.address).collect();
        for subnet in subnets.iter().filter(|net| net.prefix_len() < net.max_prefix_len()) {
            push_new(&mut self.routes, route(table, subnet.trunc(), None, external, &subnets));
        }
        for ipv6 in [false, true] {
            let hop = vips.iter().filter_map(|vip| vip.gateway).find(|gateway| gateway.is_ipv6() == ipv6);
            if hop.is_some() {
                self.routes.push(route(table, everything(ipv6), hop, external, &subnets));
            }
        }
    }
}

fn rules(config: &Config, vips: &[Vip]) -> Vec<Rule> {
    let gateway = &config.gateway;
    let rule = |priority, ipv6, selector| Rule { priority, ipv6, selector, table: gateway.table };
    let mut rules = Vec::new();
    for vip in vips {
        let address = vip.address.addr();
        push_new(&mut rules, rule(PRIORITY_FROM_VIP, address.is_ipv6(), Selector::From(address)));
    }
    for ipv6 in [false, true] {
        if vips.iter().any(|vip| vip.address.addr().is_ipv6() == ipv6) {
            let iif = |name: &String| Selector::Iif(name.clone());
            rules.push(rule(PRIORITY_FROM_CLUSTER, ipv6, iif(&gateway.cluster_interface)));
            rules.push(rule(PRIORITY_FROM_EXTERNAL, ipv6, iif(&gateway.external_interface)));
        }
    }
    rules
}

/// A route whose next hop is declared a neighbour where no prefix of the interface says so.
fn route(table: u32, destination: IpNet, gateway: Option<IpAddr>, port: &Port, on_link: &[IpNet]) -> Route {
    let onlink = gateway.is_some_and(|hop| {
        let link_local = matches!(hop, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !link_local && !on_link.iter().any(|net| net.contains(&hop))
    });
    Route { table, destination, gateway, port: port.clone(), onlink }
}

const fn everything(ipv6: bool) -> IpNet {
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    IpNet::new_assert(any, 0)
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::samples::{config, fresh_pod, seed, vip};

    fn routes(config: &Config) -> Vec<String> {
        Desired::new(config, &fresh_pod()).routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_subnet_comes_before_the_gateway_inside_it() {
        assert_eq!(
            routes(&seed()),
            [
                "172.18.0.0/16 dev net1 table 100",
                "default via 172.18.0.1 dev net1 table 100",
                "10.109.201.193/32 via 10.16.0.1 dev eth0 table 100",
            ]
        );
    }

    #[test]
    fn the_first_gateway_of_each_family_is_the_default() {
        let vips = [
            vip("172.18.0.18/16", None),
            vip("172.18.0.19/16", Some("172.18.0.1")),
            vip("192.0.2.8/24", Some("192.0.2.1")),
            vip("fd00:18::18/64", Some("fd00:18::1")),
        ];
        assert_eq!(
            routes(&config(&vips, &[])),
            [
                "172.18.0.0/16 dev net1 table 100",
                "192.0.2.0/24 dev net1 table 100",
                "fd00:18::/64 dev net1 table 100",
                "default via 172.18.0.1 dev net1 table 100",
                "default via fd00:18::1 dev net1 table 100",
            ]
        );
    }

    #[test]
    fn next_hops_outside_every_prefix_are_declared_neighbours() {
        let mut wanted = config(&[vip("198.51.100.7/32", Some("172.18.0.1"))], &["10.96.0.1", "fd00:96::1"]);
        wanted.gateway.cluster_gateways = vec![IpAddr::from([169, 254, 1, 1]), "fe80::1".parse().unwrap()];
        assert_eq!(
            routes(&wanted),
            [
                "default via 172.18.0.1 dev net1 onlink table 100",
                "10.96.0.1/32 via 169.254.1.1 dev eth0 onlink table 100",
                "fd00:96::1/128 via fe80::1 dev eth0 table 100",
            ]
        );
    }

    #[test]
    fn targets_are_on_link_where_there_is_no_next_hop() {
        let mut observed = fresh_pod();
        observed.defaults.retain(|route| route.gateway.is_ipv6());
        // Of another interface.
        observed.defaults.push(crate::net::object::DefaultRoute {
            index: 3,
            gateway: IpAddr::from([172, 18, 0, 1]),
            metric: 0,
        });
        let desired = Desired::new(&config(&[], &["10.96.0.1", "fd00:96::1"]), &observed);
        let routes: Vec<String> = desired.routes.iter().map(ToString::to_string).collect();
        assert_eq!(
            routes,
            ["10.96.0.1/32 dev eth0 table 100", "fd00:96::1/128 via fd00:16::1 dev eth0 table 100"]
        );
    }

    #[test]
    fn rules_and_settings_are_those_of_the_families_in_use() {
        let desired = Desired::new(&config(&[vip("fd00:18::18/64", None)], &["fd00:96::1"]), &fresh_pod());
        assert!(
            desired.rules.iter().all(|rule| rule.ipv6) && desired.rules.len() == 3,
            "{:?}",
            desired.rules
        );
        assert_eq!(desired.settings, []);
    }
}
