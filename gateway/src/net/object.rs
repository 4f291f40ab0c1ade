//! The kernel's network objects as far as Sluice cares for them, and the marks by which Sluice knows its own.
//!
//! Ownership is kept in the kernel, next to the object, so that it survives a restart, a lost file and an edit made while
//! the loader was not running. `docs/design/0010-network-ownership.md` says why each mark is what it is.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Protocol number of Sluice's addresses (`IFA_PROTO`, kernel 5.18). Not assigned in iproute2's `rt_addrprotos` or `rt_protos`.
pub const ADDRESS_PROTOCOL: u8 = 83;
/// Bit of the lock word (`RTAX_LOCK`) that marks Sluice's routes. The word's bits name metrics that path MTU discovery must
/// leave alone; no metric has this number, so the kernel stores the bit and acts on nothing.
pub const ROUTE_MARK: u32 = 1 << 31;
/// Priority of the rules `from <VIP>`: replies that the pod itself sends.
pub const PRIORITY_FROM_VIP: u32 = 32_763;
/// Priority of the rule `iif <cluster interface>`.
pub const PRIORITY_FROM_CLUSTER: u32 = 32_764;
/// Priority of the rule `iif <external interface>`.
pub const PRIORITY_FROM_EXTERNAL: u32 = 32_765;

/// An interface by number and name. The number is what the kernel means, the name what people read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number and name.
    pub port: Port,
    /// MTU, bytes of IP.
    pub mtu: u32,
    /// Ethernet address, where the link has one.
    pub mac: Option<[u8; 6]>,
    /// Set up by its administrator (`IFF_UP`).
    pub up: bool,
    /// Has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// IPv4 settings; `None` where the link has no IPv4.
    pub inet: Option<InetSettings>,
    /// What it is made of.
    pub make: Make,
}

/// What an interface is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Make {
    /// Kind of a device of software, such as `veth` (`IFLA_INFO_KIND`).
    pub kind: Option<String>,
    /// The device it is connected with, or stands on, is in another network namespace (`IFLA_LINK_NETNSID`).
    pub reaches_out: bool,
    /// Kind of its queueing discipline (`IFLA_QDISC`).
    pub qdisc: Option<String>,
}

/// A neighbour's Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface.
    pub index: u32,
    /// The neighbour.
    pub address: IpAddr,
    /// Its Ethernet address; `None`: not known, or no longer.
    pub mac: Option<[u8; 6]>,
}

/// The IPv4 settings of a link that Sluice manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InetSettings {
    /// `forwarding`.
    pub forwarding: bool,
    /// `promote_secondaries`.
    pub promote_secondaries: bool,
}

impl InetSettings {
    /// The value of one setting.
    pub const fn get(self, setting: Setting) -> bool {
        match setting {
            Setting::Forwarding => self.forwarding,
            Setting::PromoteSecondaries => self.promote_secondaries,
        }
    }
}

/// An IPv4 setting of a link, by its number in `linux/ip.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Setting {
    /// Packets that arrive here may be forwarded: the stack fragments what the programs cannot.
    Forwarding = 1,
    /// Removing the first VIP of a subnet keeps the others; without it the kernel removes them all.
    PromoteSecondaries = 20,
}

impl Setting {
    /// Every setting.
    pub const ALL: [Self; 2] = [Self::Forwarding, Self::PromoteSecondaries];

    /// The name below `/proc/sys/net/ipv4/conf/<interface>/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::PromoteSecondaries => "promote_secondaries",
        }
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface.
    pub port: Port,
    /// Address and prefix length.
    pub net: IpNet,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.net, self.port)
    }
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Packets that arrived by the interface of this name.
    Iif(String),
    /// Packets from this address, those of the pod itself included.
    From(IpAddr),
}

/// A routing rule: selected packets are routed by `table`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Lower is earlier.
    pub priority: u32,
    /// IPv6 rule, else IPv4.
    pub ipv6: bool,
    /// Which packets.
    pub selector: Selector,
    /// Table to look into.
    pub table: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        match &self.selector {
            Selector::Iif(name) => {
                write!(f, "{}: from all iif {name} lookup {} ({family})", self.priority, self.table)
            }
            Selector::From(address) => write!(f, "{}: from {address} lookup {}", self.priority, self.table),
        }
    }
}

/// A unicast route with one next hop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Destination, host bits zero.
    pub destination: IpNet,
    /// Next hop; `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    pub port: Port,
    /// The next hop is a neighbour though no prefix of the interface holds it.
    pub onlink: bool,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination.prefix_len() {
            0 => f.write_str("default")?,
            _ => write!(f, "{}", self.destination)?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}{} table {}", self.port, if self.onlink { " onlink" } else { "" }, self.table)
    }
}

/// Something seen in the kernel, and whether it carries Sluice's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// The object.
    pub object: T,
    /// Sluice made it.
    pub ours: bool,
}

/// What the kernel has, read in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Every interface.
    pub links: Vec<Link>,
    /// The addresses of every interface that are valid beyond the link.
    pub addresses: Vec<Seen<Address>>,
    /// The rules that have a shape Sluice uses. Others can neither be ours nor stand in our way.
    pub rules: Vec<Seen<Rule>>,
    /// The routes of every table but `local`, of normal metric and service, that are ours or might stand in our way. What
    /// has no single next hop has interface 0.
    pub routes: Vec<Seen<Route>>,
    /// The default routes of table main that have a gateway, best first.
    pub defaults: Vec<DefaultRoute>,
    /// The IPv4 settings that a new interface of this namespace gets.
    pub inet_defaults: InetSettings,
}

/// A default route of table main.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Index of the outgoing interface.
    pub index: u32,
    /// Next hop.
    pub gateway: IpAddr,
    /// Lower is better.
    pub metric: u32,
}

impl Observed {
    /// The interface of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.port.name == name)
    }

    /// The addresses of an interface.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().map(|seen| &seen.object).filter(move |a| a.port.index == index).map(|a| a.net)
    }
}
