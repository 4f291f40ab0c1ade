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
