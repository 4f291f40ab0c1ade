//! From the kernel's messages to objects. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::object::{
    ADDRESS_PROTOCOL, Address, DefaultRoute, InetSettings, Link, Make, Neighbour, PRIORITY_FROM_EXTERNAL,
    PRIORITY_FROM_VIP, Port, ROUTE_MARK, Route, Rule, Seen, Selector,
};

/// `RT_TABLE_LOCAL`: the kernel's own.
const TABLE_LOCAL: u32 = 255;
/// The metric of an IPv6 route that was made without one (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        port: Port { index: message.header.index, name: String::new() },
        mtu: 0,
        mac: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        inet: None,
        make: Make::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::LinkInfo(facts) => link.make.kind = facts.iter().find_map(kind),
            LinkAttribute::LinkNetNsId(_) => link.make.reaches_out = true,
            LinkAttribute::Qdisc(qdisc) => link.make.qdisc = Some(qdisc.clone()),
            LinkAttribute::IfName(name) => link.port.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = <[u8; 6]>::try_from(mac.as_slice()).ok(),
            LinkAttribute::AfSpecUnspec(families) => link.inet = families.iter().find_map(inet_settings),
            _ => {}
        }
    }
    (!link.port.name.is_empty()).then_some(link)
}

fn kind(fact: &LinkInfo) -> Option<String> {
    match fact {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// What the kernel knows of a neighbour. One that is being asked again keeps its address (`NUD_VALID`, include/net/neighbour.h).
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => {}
        }
    }
    let is_valid = matches!(
        message.header.state,
        NeighbourState::Permanent
            | NeighbourState::Noarp
            | NeighbourState::Reachable
            | NeighbourState::Probe
            | NeighbourState::Stale
            | NeighbourState::Delay
    );
    Some(Neighbour { index: message.header.ifindex, address: address?, mac: mac.filter(|_| is_valid) })
}

fn inet_settings(family: &AfSpecUnspec) -> Option<InetSettings> {
    let AfSpecUnspec::Inet(items) = family else { return None };
    items.iter().find_map(|item| match item {
        AfSpecInet::DevConf(conf) => Some(InetSettings {
            forwarding: conf.forwarding != 0,
            promote_secondaries: conf.promote_secondaries != 0,
        }),
        _ => None,
    })
}

pub(super) fn address(message: &AddressMessage, ports: &[Port]) -> Option<Seen<Address>> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let port = ports.iter().find(|port| port.index == message.header.index)?.clone();
    let (mut local, mut remote, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the peer; elsewhere IPv6 has only `Address`.
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => remote = Some(*address),
            AddressAttribute::Protocol(protocol) => {
                ours = *protocol == AddressProtocol::Other(ADDRESS_PROTOCOL)
            }
            _ => {}
        }
    }
    let net = IpNet::new(local.or(remote)?, message.header.prefix_len).ok()?;
    Some(Seen { object: Address { port, net }, ours })
}

/// A rule of one of the shapes that Sluice makes: one selector, and a table.
pub(super) fn rule(message: &RuleMessage) -> Option<Seen<Rule>> {
    let header = &message.header;
    let ipv6 = header.family == AddressFamily::Inet6;
    let host = if ipv6 { 128 } else { 32 };
    if header.action != RuleAction::ToTable || header.dst_len != 0 || header.tos != 0 {
        return None;
    }
    let (mut selector, mut priority, mut table, mut protocol) =
        (None, 0, u32::from(header.table), RouteProtocol::Unspec);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Iifname(name) if selector.is_none() => {
                selector = Some(Selector::Iif(name.clone()))
            }
            RuleAttribute::Source(address) if selector.is_none() && header.src_len == host => {
                selector = Some(Selector::From(*address));
            }
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Protocol(value) => protocol = *value,
            // Reported for every rule, whether set or not: "no suppression" is all ones.
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::Other(_) => {}
            _ => return None,
        }
    }
    let ours =
        protocol == RouteProtocol::Kernel && (PRIORITY_FROM_VIP..=PRIORITY_FROM_EXTERNAL).contains(&priority);
    Some(Seen { object: Rule { priority, ipv6, selector: selector?, table }, ours })
}

/// A route that is ours, or that takes the place of one: the same key (destination and metric) whatever it does.
pub(super) fn route(message: &RouteMessage, ports: &[Port]) -> Option<Seen<Route>> {
    let header = &message.header;
    let parts = Parts::read(message);
    let normal_metric = if header.address_family == AddressFamily::Inet6 { IPV6_METRIC } else { 0 };
    let special =
        header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned);
    if special || parts.table == TABLE_LOCAL || parts.metric != normal_metric {
        return None;
    }
    let simple = header.kind == RouteType::Unicast && !parts.complex;
    let port = ports.iter().find(|port| simple && Some(port.index) == parts.oif);
    let object = Route {
        table: parts.table,
        destination: parts.destination?,
        gateway: parts.gateway,
        // Whatever else it is, it is not a plain route by one interface, and never equal to one of ours.
        port: port.cloned().unwrap_or_else(|| Port { index: 0, name: "(none)".to_owned() }),
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    let ours = port.is_some() && header.protocol == RouteProtocol::Boot && parts.lock & ROUTE_MARK != 0;
    Some(Seen { object, ours })
}

/// A default route of table main that has a gateway.
pub(super) fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let parts = Parts::read(message);
    let main = parts.table == u32::from(RouteHeader::RT_TABLE_MAIN);
    if !main || message.header.kind != RouteType::Unicast || parts.destination?.prefix_len() != 0 {
        return None;
    }
    Some(DefaultRoute { index: parts.oif?, gateway: parts.gateway?, metric: parts.metric })
}

/// The attributes of a route that matter here.
#[derive(Default)]
struct Parts {
    table: u32,
    destination: Option<IpNet>,
    gateway: Option<IpAddr>,
    oif: Option<u32>,
    metric: u32,
    lock: u32,
    /// Several next hops, an encapsulation, a next hop of the other family.
    complex: bool,
}

impl Parts {
    fn read(message: &RouteMessage) -> Self {
        let header = &message.header;
        let any = match header.address_family {
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => IpAddr::from([0; 4]),
        };
        let mut parts = Self { table: u32::from(header.table), ..Self::default() };
        let mut destination = any;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => parts.table = *table,
                RouteAttribute::Destination(address) => destination = ip(address).unwrap_or(any),
                RouteAttribute::Gateway(address) => parts.gateway = ip(address),
                RouteAttribute::Oif(index) => parts.oif = Some(*index),
                RouteAttribute::Priority(metric) => parts.metric = *metric,
                RouteAttribute::Metrics(metrics) => parts.lock = lock_word(metrics),
                RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Encap(_) => {
                    parts.complex = true
                }
                _ => {}
            }
        }
        parts.destination = IpNet::new(destination, header.destination_prefix_length).ok();
        parts
    }
}

fn lock_word(metrics: &[RouteMetric]) -> u32 {
    metrics
        .iter()
        .find_map(|metric| if let RouteMetric::Lock(word) = metric { Some(*word) } else { None })
        .unwrap_or(0)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::encode;

    fn port() -> Port {
        Port { index: 7, name: "net1".to_owned() }
    }

    fn wanted(destination: &str, gateway: Option<&str>) -> Route {
        Route {
            table: 100,
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            port: port(),
            onlink: false,
        }
    }

    /// What the kernel would report of a route that we sent.
    fn reported(route: &Route) -> RouteMessage {
        let mut message = encode::route(route);
        if route.destination.addr().is_ipv6() {
            message.attributes.push(RouteAttribute::Priority(IPV6_METRIC));
        }
        message
    }

    #[test]
    fn our_own_objects_are_recognised() {
        for (destination, gateway) in [
            ("0.0.0.0/0", Some("172.18.0.1")),
            ("10.109.201.193/32", Some("10.16.0.1")),
            ("172.18.0.0/16", None),
            ("::/0", Some("fd00:18::1")),
            ("fd00:18::/64", None),
        ] {
            let object = wanted(destination, gateway);
            assert_eq!(route(&reported(&object), &[port()]), Some(Seen { object, ours: true }));
        }
        for net in ["172.18.0.18/16", "fd00:18::18/64"] {
            let object = Address { port: port(), net: net.parse().unwrap() };
            assert_eq!(address(&encode::address(&object), &[port()]), Some(Seen { object, ours: true }));
        }
        for (priority, ipv6, selector) in [
            (PRIORITY_FROM_VIP, false, Selector::From("172.18.0.18".parse().unwrap())),
            (PRIORITY_FROM_VIP, true, Selector::From("fd00:18::18".parse().unwrap())),
            (PRIORITY_FROM_EXTERNAL, true, Selector::Iif("net1".to_owned())),
        ] {
            let object = Rule { priority, ipv6, selector, table: 1000 };
            assert_eq!(rule(&encode::rule(&object)), Some(Seen { object, ours: true }));
        }
    }

    #[test]
    fn a_route_without_every_mark_is_not_ours() {
        let object = wanted("172.18.0.0/16", None);
        let ours = |change: fn(&mut RouteMessage)| {
            let mut message = reported(&object);
            change(&mut message);
            route(&message, &[port()]).map(|seen| seen.ours)
        };
        assert_eq!(ours(|_| {}), Some(true));
        assert_eq!(ours(|m| m.header.protocol = RouteProtocol::Static), Some(false));
        assert_eq!(ours(|m| m.attributes.retain(|a| !matches!(a, RouteAttribute::Metrics(_)))), Some(false));
        // `ip route add ... mtu lock 1400`
        let mtu = |m: &mut RouteMessage| {
            m.attributes.retain(|a| !matches!(a, RouteAttribute::Metrics(_)));
            m.attributes
                .push(RouteAttribute::Metrics(vec![RouteMetric::Lock(1 << 2), RouteMetric::Mtu(1400)]));
        };
        assert_eq!(ours(mtu), Some(false));
        assert_eq!(ours(|m| m.attributes.push(RouteAttribute::MultiPath(vec![]))), Some(false));
        assert_eq!(ours(|m| m.header.kind = RouteType::BlackHole), Some(false));
        assert_eq!(
            ours(|m| m.attributes.push(RouteAttribute::Priority(50))),
            None,
            "another metric is another key"
        );
        assert_eq!(ours(|m| m.header.tos = 8), None);
    }

    #[test]
    fn the_kernels_own_rules_are_not_ours() {
        let decoded = |priority, selector: RuleAttribute| {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.action = RuleAction::ToTable;
            message.attributes = vec![
                selector,
                RuleAttribute::Priority(priority),
                RuleAttribute::Table(254),
                RuleAttribute::SuppressPrefixLen(u32::MAX),
                RuleAttribute::Protocol(RouteProtocol::Kernel),
            ];
            rule(&message).map(|seen| seen.ours)
        };
        assert_eq!(decoded(32_766, RuleAttribute::Iifname("net1".to_owned())), Some(false));
        assert_eq!(decoded(1_000, RuleAttribute::L3MDev(true)), None);
        assert_eq!(decoded(32_765, RuleAttribute::FwMark(1)), None);
        assert_eq!(decoded(32_765, RuleAttribute::Iifname("net1".to_owned())), Some(true));
    }

    #[test]
    fn default_routes_of_other_tables_and_kinds_are_not_gateways() {
        let mut object = wanted("0.0.0.0/0", Some("10.16.0.1"));
        assert_eq!(default_route(&reported(&object)), None, "table 100");
        object.table = 254;
        let found = DefaultRoute { index: 7, gateway: "10.16.0.1".parse().unwrap(), metric: 0 };
        assert_eq!(default_route(&reported(&object)), Some(found));
        object.gateway = None;
        assert_eq!(default_route(&reported(&object)), None, "no gateway");
        let specific = Route { table: 254, ..wanted("10.0.0.0/8", Some("10.16.0.1")) };
        assert_eq!(default_route(&reported(&specific)), None);
    }
}
