//! From the kernel's messages to objects. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::object::{
    ADDRESS_PROTOCOL, Address, DefaultRoute, InetSettings, Link, PRIORITY_FROM_EXTERNAL, PRIORITY_FROM_VIP,
    Port, ROUTE_MARK, Route, Rule, Seen, Selector,
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
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.port.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = <[u8; 6]>::try_from(mac.as_slice()).ok(),
            LinkAttribute::AfSpecUnspec(families) => link.inet = families.iter().find_map(inet_settings),
            _ => {}
        }
    }
    (!link.port.name.is_empty()).then_some(link)
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
