//! The seed's addresses, and their IPv6 companions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `v4` or `v6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// The family of `address`.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of the IP header without options.
    pub const fn header(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Who has which address.
    pub const fn plan(self) -> Plan {
        match self {
            Self::V4 => V4,
            Self::V6 => V6,
        }
    }
}

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The VIP.
    pub vip: IpAddr,
    /// A second VIP, for gateways with several services.
    pub other_vip: IpAddr,
    /// Prefix length of the external subnet.
    pub external_prefix: u8,
    /// The external subnet's router.
    pub gateway: IpAddr,
    /// The client in the external subnet.
    pub client: IpAddr,
    /// The router's address towards the client behind it.
    pub far_gateway: IpAddr,
    /// The client behind the router.
    pub far: IpAddr,
    /// Prefix length of the far client's subnet.
    pub far_prefix: u8,
    /// The gateway pod's address in the cluster.
    pub pod: IpAddr,
    /// Prefix length of the cluster subnet.
    pub cluster_prefix: u8,
    /// The node, the cluster subnet's router.
    pub node: IpAddr,
    /// The Service's ClusterIP.
    pub cluster_ip: IpAddr,
    /// Another ClusterIP, that a service may be pointed at.
    pub other_cluster_ip: IpAddr,
    /// The backends.
    pub backends: [IpAddr; 2],
}

impl Plan {
    /// The VIP with the prefix length of its subnet.
    pub fn vip_net(&self) -> IpNet {
        IpNet::new_assert(self.vip, self.external_prefix)
    }

    /// The external subnet.
    pub fn external_subnet(&self) -> IpNet {
        self.vip_net().trunc()
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(prefix: [u16; 3], host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(prefix[0], prefix[1], prefix[2], 0, 0, 0, 0, host))
}

const V4: Plan = Plan {
    vip: v4(172, 18, 0, 18),
    other_vip: v4(172, 18, 0, 19),
    external_prefix: 16,
    gateway: v4(172, 18, 0, 1),
    client: v4(172, 18, 0, 100),
    far_gateway: v4(192, 0, 2, 1),
    far: v4(192, 0, 2, 100),
    far_prefix: 24,
    pod: v4(10, 16, 0, 2),
    cluster_prefix: 16,
    node: v4(10, 16, 0, 1),
    cluster_ip: v4(10, 109, 201, 193),
    other_cluster_ip: v4(10, 109, 201, 194),
    backends: [v4(10, 16, 0, 11), v4(10, 16, 0, 12)],
};

const EXTERNAL: [u16; 3] = [0x2001, 0xdb8, 0x18];
const FAR: [u16; 3] = [0x2001, 0xdb8, 0x2];
const CLUSTER: [u16; 3] = [0xfd00, 0x10, 0x16];
const SERVICES: [u16; 3] = [0xfd00, 0x10, 0x109];

const V6: Plan = Plan {
    vip: v6(EXTERNAL, 0x18),
    other_vip: v6(EXTERNAL, 0x19),
    external_prefix: 64,
    gateway: v6(EXTERNAL, 0x1),
    client: v6(EXTERNAL, 0x100),
    far_gateway: v6(FAR, 0x1),
    far: v6(FAR, 0x100),
    far_prefix: 64,
    pod: v6(CLUSTER, 0x2),
    cluster_prefix: 64,
    node: v6(CLUSTER, 0x1),
    cluster_ip: v6(SERVICES, 0xc1),
    other_cluster_ip: v6(SERVICES, 0xc2),
    backends: [v6(CLUSTER, 0x11), v6(CLUSTER, 0x12)],
};
