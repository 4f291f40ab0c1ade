//! Addresses: pure pools made from a Subnet, and the choice of a Service's VIPs from them.

pub mod book;
mod choose;
pub mod name;
mod pool;
mod usage;

pub use choose::{Choice, Had, choose, matching, preferred, requested};
pub use pool::{Pool, Pools};
pub use usage::usage;

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses in use, and the object that holds each, as refusals call it.
pub type Taken = BTreeMap<IpAddr, String>;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `IPv4` or `IPv6`, as Services write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}
