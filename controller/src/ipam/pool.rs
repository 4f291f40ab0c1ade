//! A Subnet's addresses of one family.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{Choice, Family, Taken};
use crate::Refusal;
use crate::api::Subnet;

/// The addresses of one prefix of a Subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    net: IpNet,
    gateway: Option<IpAddr>,
    /// Ranges that are not given dynamically, sorted by their start.
    excluded: Vec<RangeInclusive<u128>>,
}

/// The pools of a Subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// IPv4 addresses, if the Subnet has any.
    pub v4: Option<Pool>,
    /// IPv6 addresses, if the Subnet has any.
    pub v6: Option<Pool>,
}

impl Pools {
    /// The pools that `subnet` describes.
    ///
    /// # Errors
    /// A prefix, router or range that is none, or that does not fit to the others.
    pub fn of(subnet: &Subnet) -> Result<Self, Refusal> {
        let spec = &subnet.spec;
        let mut pools = Self { v4: None, v6: None };
        for text in list(&spec.cidr_block) {
            let net: IpNet = text.parse().map_err(|_| {
                let fix = "write an IPv4 prefix, an IPv6 prefix, or both with a comma";
                refuse(subnet, "cidrBlock", format!("`{text}` is not a prefix"), fix)
            })?;
            let slot = pools.slot(Family::of(net.addr()));
            if slot.is_some() {
                let fault = format!("`{}` has two prefixes of one family", spec.cidr_block);
                return Err(refuse(subnet, "cidrBlock", fault, "write one for each family"));
            }
            *slot = Some(Pool { net: net.trunc(), gateway: None, excluded: Vec::new() });
        }
        if pools.v4.is_none() && pools.v6.is_none() {
            return Err(refuse(
                subnet,
                "cidrBlock",
                "empty".to_owned(),
                "write a prefix such as 172.18.0.0/16",
            ));
        }
        for text in list(&spec.gateway) {
            pools.add_gateway(subnet, text)?;
        }
        for (index, text) in spec.exclude_ips.iter().enumerate() {
            pools.exclude(subnet, index, text)?;
        }
        for pool in [&mut pools.v4, &mut pools.v6].into_iter().flatten() {
            pool.excluded.sort_by_key(|range| *range.start());
        }
        Ok(pools)
    }

    /// `addresses` with their prefix lengths and routers; those of no pool are left out.
    pub fn choices(&self, addresses: &[IpAddr]) -> Vec<Choice> {
        addresses.iter().filter_map(|address| Choice::of(*address, self.get(Family::of(*address))?)).collect()
    }

    /// The pool of `family`.
    pub const fn get(&self, family: Family) -> Option<&Pool> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    const fn slot(&mut self, family: Family) -> &mut Option<Pool> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn add_gateway(&mut self, subnet: &Subnet, text: &str) -> Result<(), Refusal> {
        let fix = "name a router inside the Subnet's prefix of the same family, or none";
        let gateway: IpAddr = text
            .parse()
            .map_err(|_| refuse(subnet, "gateway", format!("`{text}` is not an IP address"), fix))?;
        match self.slot(Family::of(gateway)) {
            Some(pool) if pool.gateway.is_some() => {
                let fault = format!("`{}` has two addresses of one family", subnet.spec.gateway);
                Err(refuse(subnet, "gateway", fault, "write one for each prefix"))
            }
            Some(pool) if pool.hosts().contains(&bits(gateway)) => {
                pool.gateway = Some(gateway);
                Ok(())
            }
            _ => {
                let fault = format!("{gateway} is not a host of {}", subnet.spec.cidr_block);
                Err(refuse(subnet, "gateway", fault, fix))
            }
        }
    }

    fn exclude(&mut self, subnet: &Subnet, index: usize, text: &str) -> Result<(), Refusal> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let ends = first.trim().parse::<IpAddr>().ok().zip(last.trim().parse::<IpAddr>().ok());
        let Some((first, last)) =
            ends.filter(|(first, last)| first.is_ipv4() == last.is_ipv4() && first <= last)
        else {
            let fault = format!("`{text}` is not an address or a range");
            return Err(refuse(
                subnet,
                format!("excludeIps[{index}]"),
                fault,
                "write `a`, or `a..b` with a not above b",
            ));
        };
        // Of a family that the Subnet has not, or outside its prefix, it excludes nothing.
        if let Some(pool) = self.slot(Family::of(first)) {
            pool.excluded.push(bits(first)..=bits(last));
        }
        Ok(())
    }
}

impl Pool {
    /// The prefix.
    pub const fn net(&self) -> IpNet {
        self.net
    }

    /// The router, if there is one.
    pub const fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// Why `address` can never be a VIP of this pool; `None` if it can, be it excluded from dynamic choice or not.
    pub fn refuses(&self, address: IpAddr) -> Option<String> {
        if !self.net.contains(&address) {
            Some(format!("outside {}", self.net))
        } else if !self.hosts().contains(&bits(address)) {
            Some(format!("the network or broadcast address of {}", self.net))
        } else if self.gateway == Some(address) {
            Some(format!("the gateway of {}", self.net))
        } else {
            None
        }
    }

    /// The lowest address that is neither excluded nor the gateway nor `taken`. The work grows with these, not with the prefix.
    pub fn lowest_free(&self, taken: &Taken) -> Option<IpAddr> {
        self.free(taken.keys()).next().map(|range| self.address(*range.start()))
    }

    /// The ranges of addresses that are neither excluded nor the gateway nor `taken`, from low to high.
    pub(super) fn free<'a>(
        &'a self,
        taken: impl Iterator<Item = &'a IpAddr>,
    ) -> impl Iterator<Item = RangeInclusive<u128>> {
        let (first, last) = self.hosts().into_inner();
        let taken = taken.chain(&self.gateway).filter(|address| self.net.contains(*address));
        let mut blocked: Vec<RangeInclusive<u128>> =
            taken.map(|address| bits(*address)..=bits(*address)).collect();
        blocked.extend(self.excluded.iter().cloned());
        blocked.sort_by_key(|range| *range.start());
        let mut blocked = blocked.into_iter();
        // `None`: nothing can follow.
        let mut candidate = Some(first);
        std::iter::from_fn(move || {
            loop {
                let from = candidate.filter(|from| *from <= last)?;
                let Some(range) = blocked.next() else {
                    candidate = None;
                    return Some(from..=last);
                };
                candidate = range.end().checked_add(1).map(|after| after.max(from));
                if from < *range.start() {
                    return Some(from..=last.min(range.start() - 1));
                }
            }
        })
    }

    /// The ranges that `addresses` form in the prefix, from low to high; neighbours are one range.
    pub(super) fn ranges(&self, addresses: &[IpAddr]) -> Vec<RangeInclusive<u128>> {
        let inside = addresses.iter().filter(|address| self.net.contains(*address));
        let sorted: BTreeSet<u128> = inside.map(|address| bits(*address)).collect();
        let mut ranges: Vec<RangeInclusive<u128>> = Vec::new();
        for address in sorted {
            match ranges.last_mut() {
                Some(range) if address - range.end() == 1 => *range = *range.start()..=address,
                _ => ranges.push(address..=address),
            }
        }
        ranges
    }

    /// The addresses that a host can have. Prefixes of one or two addresses have neither a network nor a broadcast address
    /// (RFC 3021, RFC 6164); IPv6 has no broadcast, and its all-zero host is every router's (RFC 4291).
    fn hosts(&self) -> RangeInclusive<u128> {
        let (first, last) = (bits(self.net.network()), bits(self.net.broadcast()));
        match self.net {
            _ if last - first < 2 => first..=last,
            IpNet::V4(_) => first + 1..=last - 1,
            IpNet::V6(_) => first + 1..=last,
        }
    }

    /// The address of this pool's family with the value `bits`.
    pub(super) fn address(&self, bits: u128) -> IpAddr {
        match self.net {
            // A value of an IPv4 pool lies within its prefix, that is within 32 bits.
            IpNet::V4(_) => std::net::Ipv4Addr::from_bits(bits as u32).into(),
            IpNet::V6(_) => std::net::Ipv6Addr::from_bits(bits).into(),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The parts of a comma-separated list.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn refuse(subnet: &Subnet, field: impl std::fmt::Display, fault: String, fix: &str) -> Refusal {
    Refusal::new(&subnet.describe(), format!("spec.{field}"), fault, fix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::SubnetSpec;

    fn pools(cidr: &str, gateway: &str, excluded: &[&str]) -> Result<Pools, Refusal> {
        let spec = SubnetSpec {
            protocol: None,
            provider: "a.b".to_owned(),
            cidr_block: cidr.to_owned(),
            gateway: gateway.to_owned(),
            exclude_ips: excluded.iter().map(|text| (*text).to_owned()).collect(),
        };
        Pools::of(&Subnet::new("external", spec))
    }

    fn v4(cidr: &str, gateway: &str, excluded: &[&str]) -> Pool {
        pools(cidr, gateway, excluded).unwrap().v4.unwrap()
    }

    fn taken(addresses: impl IntoIterator<Item = IpAddr>) -> Taken {
        addresses.into_iter().map(|address| (address, "somebody".to_owned())).collect()
    }

    fn lowest(pool: &Pool, known: &[&str]) -> Option<String> {
        pool.lowest_free(&taken(known.iter().map(|known| known.parse().unwrap())))
            .map(|address| address.to_string())
    }

    #[test]
    fn lowest_free_skips_what_is_not_to_be_given() {
        let pool = v4("172.18.0.0/16", "172.18.0.1", &["172.18.0.0..172.18.0.10"]);
        assert_eq!(lowest(&pool, &[]).unwrap(), "172.18.0.11");
        assert_eq!(lowest(&pool, &["172.18.0.11", "172.18.0.13", "10.0.0.1"]).unwrap(), "172.18.0.12");
        assert_eq!(lowest(&v4("10.0.0.0/24", "10.0.0.1", &[]), &[]).unwrap(), "10.0.0.2");
        assert_eq!(
            lowest(&v4("10.0.0.0/24", "", &["10.0.0.3..10.0.0.9", "10.0.0.1..10.0.0.4"]), &[]).unwrap(),
            "10.0.0.10"
        );
    }

    #[test]
    fn small_and_full_pools() {
        assert_eq!(lowest(&v4("10.0.0.0/30", "10.0.0.1", &[]), &[]).unwrap(), "10.0.0.2");
        assert_eq!(lowest(&v4("10.0.0.0/30", "10.0.0.1", &[]), &["10.0.0.2"]), None);
        assert_eq!(lowest(&v4("10.0.0.0/31", "10.0.0.0", &[]), &[]).unwrap(), "10.0.0.1");
        assert_eq!(lowest(&v4("10.0.0.7/32", "", &[]), &[]).unwrap(), "10.0.0.7");
        assert_eq!(lowest(&v4("255.255.255.252/30", "", &["255.255.255.253..255.255.255.255"]), &[]), None);
    }

    #[test]
    fn huge_ipv6_prefixes_are_not_walked() {
        let pool = pools("fd00::/8", "fd00::1", &["fd00::..fd80::"]).unwrap().v6.unwrap();
        assert_eq!(lowest(&pool, &["fd80::1"]).unwrap(), "fd80::2");
        let all = pools("::/0", "", &["::..ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]).unwrap().v6.unwrap();
        assert_eq!(lowest(&all, &[]), None);
    }

    #[test]
    fn static_requests() {
        let pool = v4("172.18.0.0/16", "172.18.0.1", &["172.18.0.0..172.18.0.10"]);
        let refuses = |address: &str| pool.refuses(address.parse().unwrap());
        assert_eq!(refuses("172.18.0.18"), None);
        assert_eq!(refuses("172.18.0.5"), None, "a static request may use an excluded address");
        assert!(refuses("172.19.0.1").unwrap().contains("outside 172.18.0.0/16"));
        assert!(refuses("fd00::1").unwrap().contains("outside"));
        assert!(refuses("172.18.0.1").unwrap().contains("gateway"));
        assert!(refuses("172.18.0.0").unwrap().contains("network or broadcast"));
        assert!(refuses("172.18.255.255").unwrap().contains("network or broadcast"));
    }

    #[test]
    fn dual_stack_in_either_order() {
        let both = pools("fd00:18::/64, 172.18.0.0/16", "172.18.0.1,fd00:18::1", &["fd00:18::1..fd00:18::f"])
            .unwrap();
        assert_eq!(both.v4.as_ref().unwrap().gateway(), Some("172.18.0.1".parse().unwrap()));
        assert_eq!(lowest(both.v6.as_ref().unwrap(), &[]).unwrap(), "fd00:18::10");
    }

    #[test]
    fn refusals_name_the_field() {
        let refused = |cidr: &str, gateway: &str, excluded: &[&str]| {
            pools(cidr, gateway, excluded).unwrap_err().to_string()
        };
        assert_eq!(
            refused("172.18.0.0", "", &[]),
            "Subnet external: spec.cidrBlock: `172.18.0.0` is not a prefix: write an IPv4 prefix, an IPv6 prefix, or both with a comma"
        );
        assert!(refused("", "", &[]).contains("spec.cidrBlock: empty"));
        assert!(refused("10.0.0.0/24,10.0.1.0/24", "", &[]).contains("two prefixes of one family"));
        assert!(
            refused("10.0.0.0/24", "router", &[]).contains("spec.gateway: `router` is not an IP address")
        );
        assert!(
            refused("10.0.0.0/24", "10.0.1.1", &[])
                .contains("spec.gateway: 10.0.1.1 is not a host of 10.0.0.0/24")
        );
        assert!(refused("10.0.0.0/24", "10.0.0.255", &[]).contains("not a host"));
        assert!(refused("10.0.0.0/24", "fd00::1", &[]).contains("not a host"));
        assert!(refused("10.0.0.0/24", "10.0.0.1,10.0.0.2", &[]).contains("two addresses of one family"));
        for range in ["x", "10.0.0.9..10.0.0.1", "10.0.0.1..fd00::1", "10.0.0.1.."] {
            assert!(
                refused("10.0.0.0/24", "", &["10.0.0.1", range]).contains("spec.excludeIps[1]"),
                "{range}"
            );
        }
    }

    proptest! {
        /// Against a walk over every address of a small prefix.
        #[test]
        fn lowest_free_is_what_a_walk_finds(
            length in 24_u8..=32, gateway in proptest::option::of(any::<u8>()),
            excluded in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..4),
            known in proptest::collection::btree_set(any::<u8>(), 0..200),
        ) {
            let at = |host: u8| IpAddr::from([10, 0, 0, host]);
            let net = IpNet::new(at(0), length).unwrap();
            let hosts: Vec<IpAddr> = net.hosts().collect();
            let gateway = gateway.map(at).filter(|gateway| hosts.contains(gateway));
            let ranges: Vec<String> =
                excluded.iter().map(|(a, b)| format!("{}..{}", at(*a.min(b)), at(*a.max(b)))).collect();
            let text = gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            let pool = v4(&net.to_string(), &text, &ranges.iter().map(String::as_str).collect::<Vec<_>>());
            let known = taken(known.into_iter().map(at));
            let inside = |address: &IpAddr| excluded.iter().any(|(a, b)| (at(*a.min(b))..=at(*a.max(b))).contains(address));
            let walk = hosts.into_iter().find(|host| Some(*host) != gateway && !known.contains_key(host) && !inside(host));
            prop_assert_eq!(pool.lowest_free(&known), walk);
            if let Some(address) = walk {
                prop_assert_eq!(pool.refuses(address), None);
            }
        }
    }
}
