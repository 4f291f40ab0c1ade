//! What a Subnet's status says: how much of it is in use.
//!
//! Counted by ranges: a prefix of 2^64 addresses takes no more work than its reservations and excluded ranges.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Family, Pool, Pools};
use crate::api::SubnetStatus;

/// The status of a Subnet of whose network the addresses `reserved` are in use; those outside its prefixes are not counted.
///
/// Not available are the network and broadcast addresses, the router, excluded ranges, and what is in use. A reserved address counts as in use
/// also where it is excluded.
pub fn usage(pools: &Pools, reserved: &[IpAddr]) -> SubnetStatus {
    let count = |family| pools.get(family).map(|pool| Usage::of(pool, reserved)).unwrap_or_default();
    let (v4, v6) = (count(Family::V4), count(Family::V6));
    SubnetStatus {
        v4_available_ips: v4.available,
        v4_available_ip_range: v4.available_ranges,
        v4_using_ips: v4.using,
        v4_using_ip_range: v4.using_ranges,
        v6_available_ips: v6.available,
        v6_available_ip_range: v6.available_ranges,
        v6_using_ips: v6.using,
        v6_using_ip_range: v6.using_ranges,
    }
}

/// The same of one family; nothing where the Subnet lacks it.
#[derive(Default)]
struct Usage {
    available: f64,
    available_ranges: String,
    using: f64,
    using_ranges: String,
}

impl Usage {
    fn of(pool: &Pool, reserved: &[IpAddr]) -> Self {
        let using = pool.ranges(reserved);
        let available: Vec<_> = pool.free(reserved.iter()).collect();
        Self {
            available: count(&available),
            available_ranges: text(pool, &available),
            using: count(&using),
            using_ranges: text(pool, &using),
        }
    }
}

/// How many addresses are in ranges that do not overlap. Exact up to 2^53, as JSON's numbers are.
fn count(ranges: &[RangeInclusive<u128>]) -> f64 {
    // All of IPv6 is one more than fits.
    ranges.iter().map(|range| (range.end() - range.start()) as f64 + 1.0).sum()
}

/// `a-b,c`, as Kube-OVN writes ranges.
fn text(pool: &Pool, ranges: &[RangeInclusive<u128>]) -> String {
    let range = |range: &RangeInclusive<u128>| {
        let (first, last) = (pool.address(*range.start()), pool.address(*range.end()));
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::api::{Subnet, SubnetSpec};

    fn pools(cidr: &str, gateway: &str, excluded: &[&str]) -> Pools {
        let spec = SubnetSpec {
            cidr_block: cidr.to_owned(),
            gateway: gateway.to_owned(),
            exclude_ips: excluded.iter().map(|text| (*text).to_owned()).collect(),
            ..SubnetSpec::default()
        };
        Pools::of(&Subnet::new("external", spec)).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_seeds_subnet() {
        let pools = pools("172.18.0.0/16", "172.18.0.1", &["172.18.0.0..172.18.0.10"]);
        let status = usage(&pools, &[]);
        // 65536 addresses, less 0 to 10 and the broadcast address.
        assert_eq!((status.v4_using_ips, status.v4_available_ips), (0.0, 65524.0));
        assert_eq!(status.v4_available_ip_range, "172.18.0.11-172.18.255.254");
        assert_eq!(status.v4_using_ip_range, "");
        assert_eq!((status.v6_using_ips, status.v6_available_ips), (0.0, 0.0));
        assert_eq!(status.v6_available_ip_range, "");

        let reserved =
            addresses(&["172.18.0.18", "172.18.0.11", "172.18.0.12", "172.18.0.5", "172.19.0.1", "fd00::1"]);
        let status = usage(&pools, &reserved);
        assert_eq!((status.v4_using_ips, status.v4_available_ips), (4.0, 65521.0));
        assert_eq!(status.v4_using_ip_range, "172.18.0.5,172.18.0.11-172.18.0.12,172.18.0.18");
        assert_eq!(status.v4_available_ip_range, "172.18.0.13-172.18.0.17,172.18.0.19-172.18.255.254");
    }

    #[test]
    fn huge_ipv6_prefixes_are_not_walked() {
        let status = usage(
            &pools("fd00:18::/64", "fd00:18::1", &["fd00:18::2..fd00:18::f"]),
            &addresses(&["fd00:18::10", "fd00:18::8000"]),
        );
        assert_eq!(status.v6_using_ips, 2.0);
        assert_eq!(status.v6_using_ip_range, "fd00:18::10,fd00:18::8000");
        assert_eq!(status.v6_available_ips, 2_f64.powi(64) - 18.0);
        assert_eq!(
            status.v6_available_ip_range,
            "fd00:18::11-fd00:18::7fff,fd00:18::8001-fd00:18::ffff:ffff:ffff:ffff"
        );
        let all = usage(&pools("::/0", "", &[]), &[]);
        assert_eq!(all.v6_available_ips, 2_f64.powi(128));
        assert_eq!(all.v6_available_ip_range, "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn a_full_subnet() {
        let status = usage(&pools("10.0.0.0/30", "10.0.0.1", &[]), &addresses(&["10.0.0.2"]));
        assert_eq!((status.v4_using_ips, status.v4_available_ips), (1.0, 0.0));
        assert_eq!(status.v4_available_ip_range, "");
        let end = usage(&pools("255.255.255.254/31", "", &[]), &addresses(&["255.255.255.254"]));
        assert_eq!(end.v4_available_ip_range, "255.255.255.255");
    }

    /// The hosts in a text of ranges.
    fn parse(text: &str) -> BTreeSet<u8> {
        let host = |text: &str| text.rsplit('.').next().unwrap().parse::<u8>().unwrap();
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .flat_map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                host(first)..=host(last)
            })
            .collect()
    }

    proptest! {
        /// Against a walk over every address of a small prefix.
        #[test]
        fn counts_are_what_a_walk_counts(
            length in 24_u8..=32, gateway in proptest::option::of(any::<u8>()),
            excluded in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..4),
            reserved in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let at = |host: u8| IpAddr::from([10, 0, 0, host]);
            let net = ipnet::IpNet::new(at(0), length).unwrap();
            let hosts: Vec<IpAddr> = net.hosts().collect();
            let gateway = gateway.map(at).filter(|gateway| hosts.contains(gateway));
            let excluded: Vec<(u8, u8)> = excluded.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let ranges: Vec<String> = excluded.iter().map(|(a, b)| format!("{}..{}", at(*a), at(*b))).collect();
            let text = gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            let pools = pools(&net.to_string(), &text, &ranges.iter().map(String::as_str).collect::<Vec<_>>());
            let status = usage(&pools, &reserved.iter().copied().map(at).collect::<Vec<_>>());

            let using: BTreeSet<u8> = reserved.iter().copied().filter(|host| net.contains(&at(*host))).collect();
            let available: BTreeSet<u8> = (0..=255_u8)
                .filter(|host| hosts.contains(&at(*host)) && Some(at(*host)) != gateway && !using.contains(host))
                .filter(|host| !excluded.iter().any(|(a, b)| (a..=b).contains(&host)))
                .collect();
            prop_assert_eq!((status.v4_using_ips, status.v4_available_ips), (using.len() as f64, available.len() as f64));
            prop_assert_eq!(parse(&status.v4_using_ip_range), using);
            prop_assert_eq!(parse(&status.v4_available_ip_range), available);
        }
    }
}
