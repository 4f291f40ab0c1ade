//! Reading the network: links, addresses, rules and routes, both families.

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode;
use super::error::Error;
use super::kernel::Kernel;
use super::object::{InetSettings, Neighbour, Observed, Port, Setting};

/// Reads all that a plan needs.
pub(super) async fn observe(kernel: &Kernel) -> Result<Observed, Error> {
    let mut observed = Observed { inet_defaults: inet_defaults(), ..Observed::default() };
    for message in kernel.list("links", RouteNetlinkMessage::GetLink(LinkMessage::default())).await? {
        if let RouteNetlinkMessage::NewLink(message) = message {
            observed.links.extend(decode::link(&message));
        }
    }
    let ports: Vec<Port> = observed.links.iter().map(|link| link.port.clone()).collect();
    for message in
        kernel.list("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?
    {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            observed.addresses.extend(decode::address(&message, &ports));
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut get = RuleMessage::default();
        get.header.family = family;
        for message in kernel.list("rules", RouteNetlinkMessage::GetRule(get)).await? {
            if let RouteNetlinkMessage::NewRule(message) = message
                && message.header.family == family
            {
                observed.rules.extend(decode::rule(&message));
            }
        }
        let mut get = RouteMessage::default();
        get.header.address_family = family;
        for message in kernel.list("routes", RouteNetlinkMessage::GetRoute(get)).await? {
            if let RouteNetlinkMessage::NewRoute(message) = message
                && message.header.address_family == family
            {
                observed.defaults.extend(decode::default_route(&message));
                observed.routes.extend(decode::route(&message, &ports));
            }
        }
    }
    observed.defaults.sort_by_key(|route| route.metric);
    Ok(observed)
}

/// Reads what is known of the neighbours on one interface. Others are listed by old kernels only.
pub(super) async fn neighbours(kernel: &Kernel, index: u32) -> Result<Vec<Neighbour>, Error> {
    let mut get = NeighbourMessage::default();
    get.attributes.push(NeighbourAttribute::IfIndex(index));
    let list = kernel.list("neighbours", RouteNetlinkMessage::GetNeighbour(get)).await?;
    let neighbours = list.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewNeighbour(message) => decode::neighbour(&message),
        _ => None,
    });
    Ok(neighbours.filter(|neighbour| neighbour.index == index).collect())
}

/// What `conf/default` says. Unreadable (no `/proc`) counts as the kernel's own default, off.
fn inet_defaults() -> InetSettings {
    let on = |setting: Setting| {
        let path = format!("/proc/sys/net/ipv4/conf/default/{}", setting.name());
        std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
    };
    InetSettings { forwarding: on(Setting::Forwarding), promote_secondaries: on(Setting::PromoteSecondaries) }
}
