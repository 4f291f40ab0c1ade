//! The validated configuration: what the rest of the loader works on. Made by reading a gateway file; every address is of a
//! family that its service has, every reference resolves, nothing is left to check.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;

/// A whole gateway file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Settings of the gateway.
    pub gateway: Gateway,
    /// Services, in the order of the file; names are unique.
    pub services: Vec<Service>,
}

/// Settings of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Name of the external interface, `net1` unless set.
    pub external_interface: String,
    /// Name of the cluster interface, `eth0` unless set.
    pub cluster_interface: String,
    /// Next hops on the cluster interface, at most one of each family; where one is missing, the default route of the
    /// cluster interface in the main table is used, else targets are on-link.
    pub cluster_gateways: Vec<IpAddr>,
    /// Routing table that holds the gateway's routes, 100 unless set.
    pub table: u32,
    /// Flows per family, a power of two (rounded up).
    pub max_flows: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// ICMP errors that the programs may send, per second and CPU.
    pub icmp_errors_per_second: u32,
    /// By which hook packets from clients are taken.
    pub attach: Attach,
    /// Port of the admin server (`/livez`, `/readyz`, `/metrics`), bound to the cluster interface's addresses and loopback.
    pub admin_port: u16,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            external_interface: "net1".to_owned(),
            cluster_interface: "eth0".to_owned(),
            cluster_gateways: Vec::new(),
            table: 100,
            max_flows: limits::DEFAULT_MAX_FLOWS,
            timeouts: Timeouts::default(),
            icmp_errors_per_second: 1_000,
            attach: Attach::Auto,
            admin_port: 9_808,
        }
    }
}

/// Idle timeouts in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields mirror the programs' own Timeouts, documented there")]
pub struct Timeouts {
    pub tcp_half_open: u32,
    pub tcp_established: u32,
    pub tcp_fin: u32,
    pub tcp_time_wait: u32,
    pub tcp_closed: u32,
    pub udp_unreplied: u32,
    pub udp_stream: u32,
    pub sctp_unreplied: u32,
    pub sctp_established: u32,
}

/// Netfilter's values, where it has the state.
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_half_open: 60,
            tcp_established: 432_000,
            tcp_fin: 120,
            tcp_time_wait: 65,
            tcp_closed: 10,
            udp_unreplied: 30,
            udp_stream: 120,
            sctp_unreplied: 30,
            sctp_established: 210,
        }
    }
}

/// One service: a set of VIPs and ports served by a set of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `<namespace>/<name>`, unique in the file.
    pub name: String,
    /// Addresses that clients use.
    pub vips: Vec<Vip>,
    /// Source addresses towards the targets, at most one of each family; where one is missing, the cluster interface's
    /// own first global address.
    pub snat: Vec<IpAddr>,
    /// Where packets go: today one ClusterIP per family. A VIP is served by the targets of its own family.
    pub targets: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Clients that may connect, each network once; empty: everybody. Not empty, but without one of a family: nobody of
    /// that family.
    pub source_ranges: Vec<IpNet>,
}

/// An address that clients use, with the prefix length of its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Address and prefix length.
    pub address: IpNet,
    /// The subnet's router; without one only clients inside the subnet are answered.
    pub gateway: Option<IpAddr>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name, for people.
    pub name: Option<String>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the VIP.
    pub port: u16,
    /// Port of the targets; the same as `port` unless the file says otherwise.
    pub target_port: u16,
}

/// By which hook packets from clients are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// XDP where it works, else tc.
    #[default]
    Auto,
    /// tc alone.
    Tc,
    /// XDP before tc; where it does not work that is a problem, and tc serves alone.
    Xdp,
}

impl Attach {
    /// As the gateway file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// Transport protocols that Sluice forwards.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// `TCP`, `UDP` or `SCTP`, as Kubernetes and the gateway file write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}
