//! Addresses as the maps hold them, and as the rest of user space does.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use sluice_gateway_ebpf::family::Address;

/// An address of one family, with what user space needs beyond [`Address`].
pub trait IpBytes: Address + Ord + Hash + Send + Sync {
    /// `v4` or `v6`: the suffix of the family's maps.
    const SUFFIX: &'static str;
    /// Bits of an address.
    const BITS: u8;
    /// The address, if it is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// The address for the rest of user space.
    fn ip(self) -> IpAddr;
    /// A netmask of `length` leading one bits.
    fn mask(length: u8) -> Self;
    /// `self & mask`.
    fn masked(self, mask: Self) -> Self;
}

impl IpBytes for [u8; 4] {
    const SUFFIX: &'static str = "v4";
    const BITS: u8 = 32;
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.octets()),
            IpAddr::V6(_) => None,
        }
    }
    fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }
    fn mask(length: u8) -> Self {
        u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0).to_be_bytes()
    }
    fn masked(self, mask: Self) -> Self {
        (u32::from_be_bytes(self) & u32::from_be_bytes(mask)).to_be_bytes()
    }
}

impl IpBytes for [u8; 16] {
    const SUFFIX: &'static str = "v6";
    const BITS: u8 = 128;
    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.octets()),
        }
    }
    fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self))
    }
    fn mask(length: u8) -> Self {
        u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0).to_be_bytes()
    }
    fn masked(self, mask: Self) -> Self {
        (u128::from_be_bytes(self) & u128::from_be_bytes(mask)).to_be_bytes()
    }
}

/// A prefix of one family; the bits beyond `length` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix<A> {
    /// Network address.
    pub address: A,
    /// Leading bits that count.
    pub length: u8,
}

impl<A: IpBytes> Prefix<A> {
    /// The prefix, if it is of this family; bits beyond its length are dropped.
    pub fn from_net(net: IpNet) -> Option<Self> {
        Some(Self { address: A::from_ip(net.network())?, length: net.prefix_len() })
    }
    /// Whether `address` lies inside.
    pub fn contains(&self, address: A) -> bool {
        address.masked(A::mask(self.length)) == self.address
    }
}

impl<A: IpBytes> std::fmt::Display for Prefix<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address.ip(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cover_every_length() {
        assert_eq!(<[u8; 4]>::mask(0), [0; 4]);
        assert_eq!(<[u8; 4]>::mask(20), [255, 255, 240, 0]);
        assert_eq!(<[u8; 4]>::mask(32), [255; 4]);
        assert_eq!(<[u8; 16]>::mask(0), [0; 16]);
        assert_eq!(<[u8; 16]>::mask(128), [255; 16]);
        assert_eq!(<[u8; 16]>::mask(64)[..9], [255, 255, 255, 255, 255, 255, 255, 255, 0]);
    }

    #[test]
    fn a_prefix_contains_what_ipnet_says() {
        for (net, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.9", "10.2.0.0"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
        ] {
            let prefix = Prefix::<[u8; 4]>::from_net(net.parse().unwrap()).unwrap();
            assert!(prefix.contains(<[u8; 4]>::from_ip(inside.parse().unwrap()).unwrap()), "{net} {inside}");
            if let Some(address) = <[u8; 4]>::from_ip(outside.parse().unwrap()) {
                assert!(!prefix.contains(address), "{net} {outside}");
            }
        }
    }
}
