//! Addresses of a Subnet, found by trying one after the other: not the way that Sluice finds them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sluice_controller::api::SubnetSpec;

/// The addresses of a Subnet.
pub struct Pool {
    prefixes: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    excluded: Vec<(IpAddr, IpAddr)>,
    /// Those that somebody has.
    pub taken: BTreeSet<IpAddr>,
}

impl Pool {
    /// Nothing is taken.
    pub fn of(spec: &SubnetSpec) -> Self {
        let range = |text: &String| {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            (first.parse().unwrap(), last.parse().unwrap())
        };
        Self {
            prefixes: spec.cidr_block.split(',').map(|prefix| prefix.trim().parse().unwrap()).collect(),
            gateways: spec.gateway.split(',').filter_map(|gateway| gateway.trim().parse().ok()).collect(),
            excluded: spec.exclude_ips.iter().map(range).collect(),
            taken: BTreeSet::new(),
        }
    }

    /// Takes the requested addresses, or the lowest free one of each prefix.
    ///
    /// # Errors
    /// Why there is none, in words like Kube-OVN's.
    pub fn take(&mut self, requested: &[IpAddr]) -> Result<Vec<IpAddr>, String> {
        let chosen: Vec<IpAddr> = if requested.is_empty() {
            let lowest = |prefix: &IpNet| prefix.hosts().find(|address| self.is_free(*address));
            self.prefixes.iter().map(lowest).collect::<Option<_>>().ok_or("NoAvailableAddress")?
        } else {
            requested.to_vec()
        };
        for address in &chosen {
            if !self.prefixes.iter().any(|prefix| prefix.contains(address)) {
                return Err(format!("AddressOutOfRange: {address}"));
            }
            if self.taken.contains(address) {
                return Err(format!("AddressConflict: {address}"));
            }
        }
        self.taken.extend(&chosen);
        Ok(chosen)
    }

    /// How many addresses of a family are in use.
    pub fn using(&self, v4: bool) -> usize {
        self.taken.iter().filter(|address| address.is_ipv4() == v4).count()
    }

    fn is_free(&self, address: IpAddr) -> bool {
        let excluded = self.excluded.iter().any(|(first, last)| (first..=last).contains(&&address));
        let network = self.prefixes.iter().any(|prefix| prefix.network() == address);
        !excluded && !network && !self.gateways.contains(&address) && !self.taken.contains(&address)
    }
}

#[test]
fn the_lowest_free_address_is_taken_and_no_other_twice() {
    let mut pool = Pool::of(&SubnetSpec {
        cidr_block: "172.18.0.0/29,fd00::/64".to_owned(),
        gateway: "172.18.0.1,fd00::1".to_owned(),
        exclude_ips: vec!["172.18.0.2..172.18.0.3".to_owned()],
        ..SubnetSpec::default()
    });
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert_eq!(pool.take(&[]), Ok(addresses(&["172.18.0.4", "fd00::2"])));
    assert_eq!(pool.take(&addresses(&["172.18.0.3"])), Ok(addresses(&["172.18.0.3"])));
    assert!(pool.take(&addresses(&["172.18.0.4"])).unwrap_err().contains("AddressConflict"));
    assert!(pool.take(&addresses(&["172.18.0.9"])).unwrap_err().contains("AddressOutOfRange"));
    assert_eq!(pool.using(true), 2);
}
