//! Which addresses a gateway can use.

use std::net::IpAddr;

use ipnet::IpNet;

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Why no packet can be sent to `address` as one host on any network; `None` if one can.
pub(super) fn unusable(address: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let this_network = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0);
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    [
        (address.is_unspecified(), "the unspecified address"),
        (this_network, "an address of \"this network\" (RFC 1122)"),
        (address.is_loopback(), "a loopback address"),
        (address.is_multicast(), "a multicast address"),
        (broadcast, "the broadcast address"),
        (mapped, "an IPv4-mapped IPv6 address"),
    ]
    .into_iter()
    .find_map(|(applies, reason)| applies.then_some(reason))
}

/// Why `address` cannot be a host's inside its own network; `None` if it can. Networks of one or two addresses have neither
/// a network nor a broadcast address (RFC 3021, RFC 6164); IPv6 has no broadcast, but its all-zero host is every router's
/// (RFC 4291, section 2.6.1).
pub(super) fn unusable_host(address: IpNet) -> Option<&'static str> {
    if let Some(reason) = unusable(address.addr()) {
        return Some(reason);
    }
    if address.max_prefix_len() - address.prefix_len() < 2 {
        None
    } else if address.addr() == address.network() {
        Some("the network address of its subnet")
    } else if address.addr().is_ipv4() && address.addr() == address.broadcast() {
        Some("the broadcast address of its subnet")
    } else {
        None
    }
}

/// Whether `address` is an IPv6 link-local one, which only has meaning together with an interface.
pub(super) fn is_ipv6_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_is_none() {
        for host in [
            "172.18.0.18/16",
            "10.0.0.1/31",
            "10.0.0.0/31",
            "10.0.0.7/32",
            "fd00::1/64",
            "fd00::/127",
            "fd00::ffff/112",
        ] {
            assert_eq!(unusable_host(host.parse().unwrap()), None, "{host}");
        }
        for none in [
            "172.18.0.0/16",
            "172.18.255.255/16",
            "127.0.0.1/8",
            "224.0.0.1/24",
            "255.255.255.255/32",
            "0.0.0.0/0",
            "0.1.2.3/8",
            "fd00::/64",
            "::1/128",
            "ff02::1/64",
            "::/0",
            "::ffff:10.0.0.1/128",
        ] {
            assert!(unusable_host(none.parse().unwrap()).is_some(), "{none}");
        }
    }
}
