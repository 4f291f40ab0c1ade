//! From steps to the kernel's messages. Pure.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_core::{DefaultNla, NLA_F_NESTED};

use super::object::{ADDRESS_PROTOCOL, Address, Port, ROUTE_MARK, Route, Rule, Selector, Setting};

/// `IFLA_INET_CONF` (`linux/if_link.h`): in a request, a nest of settings by number.
const IFLA_INET_CONF: u16 = 1;

const fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

/// Sets the interface up.
pub(super) fn up(port: &Port) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = port.index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

/// Switches an IPv4 setting: what `/proc/sys/net/ipv4/conf/<interface>/` does where it is writable.
pub(super) fn setting(port: &Port, setting: Setting, on: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = port.index;
    let mut value = Vec::with_capacity(8);
    value.extend_from_slice(&8u16.to_ne_bytes());
    value.extend_from_slice(&(setting as u16).to_ne_bytes());
    value.extend_from_slice(&u32::from(on).to_ne_bytes());
    let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, value));
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![conf])]));
    message
}

/// Our address: no broadcast address, no duplicate address detection (a VIP must answer at once, and a conflict is the
/// address plan's to prevent).
pub(super) fn address(address: &Address) -> AddressMessage {
    let ip = address.net.addr();
    let mut message = AddressMessage::default();
    message.header.family = family(ip.is_ipv6());
    message.header.prefix_len = address.net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = address.port.index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)));
    if ip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

/// Our rule.
pub(super) fn rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.ipv6);
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Kernel));
    match &rule.selector {
        Selector::Iif(name) => message.attributes.push(RuleAttribute::Iifname(name.clone())),
        Selector::From(address) => {
            message.header.src_len = if rule.ipv6 { 128 } else { 32 };
            message.attributes.push(RuleAttribute::Source(*address));
        }
    }
    message
}

/// Our route.
pub(super) fn route(route: &Route) -> RouteMessage {
    let ipv6 = route.destination.addr().is_ipv6();
    let mut message = RouteMessage::default();
    message.header.address_family = family(ipv6);
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    // IPv6 knows no scopes.
    message.header.scope =
        if route.gateway.is_none() && !ipv6 { RouteScope::Link } else { RouteScope::Universe };
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    message.attributes.push(RouteAttribute::Table(route.table));
    if route.destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    message.attributes.push(RouteAttribute::Oif(route.port.index));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Lock(ROUTE_MARK)]));
    message
}

/// Asks the kernel to resolve a neighbour, or to check it if it has not been heard of for long.
pub(super) fn resolve(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address.is_ipv6());
    message.header.ifindex = index;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}
