//! The gateway file as it is written: version 1. Plain data without judgement, for reading (see [`super::parse`]) and for
//! writing ([`File::to_yaml`]).
//!
//! Addresses and durations are strings here, so that checking can report every fault with its field and its fix.
//! The descriptions below become those of `docs/gateway.schema.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attach, Config, Protocol, duration, limits, model};

// Patterns of the schema: coarse, for editors. The reader's own checks are exact.
const ADDRESS: &str = "^[0-9A-Fa-f:.]+$";
const NETWORK: &str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";
const NAME: &str = "^[A-Za-z0-9._/-]+$";

/// Configuration of one Sluice gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    /// Version of the file's format.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// Settings of the gateway; everything has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// What the gateway serves; `[]` serves nothing.
    pub services: Vec<Service>,
}

/// Settings of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Interface that clients reach; default `net1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limits::MAX_INTERFACE_NAME))]
    pub external_interface: Option<String>,
    /// Interface that targets are reached by; default `eth0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limits::MAX_INTERFACE_NAME))]
    pub cluster_interface: Option<String>,
    /// Next hops on the cluster interface, at most one of each family; default: the cluster interface's default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(regex(pattern = ADDRESS)))]
    pub cluster_gateways: Vec<String>,
    /// Routing table for the gateway's own routes; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *limits::TABLE.start(), max = *limits::TABLE.end()))]
    pub table: Option<u32>,
    /// Flows per address family, rounded up to a power of two; default 262144. A change takes effect when the gateway's maps are
    /// made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *limits::MAX_FLOWS.start(), max = *limits::MAX_FLOWS.end()))]
    pub max_flows: Option<u32>,
    /// Idle times after which a flow is forgotten; default: Linux netfilter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// ICMP errors that the gateway may send per second and CPU; 0 sends none; default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *limits::ICMP_ERRORS_PER_SECOND.start(), max = *limits::ICMP_ERRORS_PER_SECOND.end()))]
    pub icmp_errors_per_second: Option<u32>,
    /// By which hook packets from clients are taken; default `auto`: XDP where the driver of the external interface has it and
    /// what it sends into the cluster interface is seen to arrive, else tc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<Attach>,
    /// TCP port of `/livez`, `/readyz` and `/metrics` on the cluster interface and loopback; default 9808.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub admin_port: Option<u16>,
}

/// Idle times such as `30s`, `2m`, `1h 30m` or `5d`, in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// TCP handshake that the client has not completed; default `60s`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_half_open: Option<String>,
    /// TCP connection; default `5d`, at most `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_established: Option<String>,
    /// TCP connection after the first FIN; default `2m`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_fin: Option<String>,
    /// TCP connection that the target closed first, while the target may be in TIME_WAIT; default `60s`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_time_wait: Option<String>,
    /// TCP connection that was reset, or that the client closed first; default `10s`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_closed: Option<String>,
    /// UDP exchange that has not gone beyond one answer; default `30s`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_unreplied: Option<String>,
    /// UDP exchange that went on; default `2m`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_stream: Option<String>,
    /// SCTP without an answer; default `30s`, at most `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp_unreplied: Option<String>,
    /// SCTP that was answered; default `210s`, at most `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp_established: Option<String>,
}

/// A set of VIPs and ports served by a set of targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    /// Name, unique in the file: `<namespace>/<name>` of the Kubernetes Service.
    #[schemars(length(min = 1, max = limits::MAX_SERVICE_NAME), regex(pattern = NAME))]
    pub name: String,
    /// Addresses that clients use.
    #[schemars(length(min = 1))]
    pub vips: Vec<Vip>,
    /// Where packets go, one address for each family of the VIPs: in Kubernetes, the Service's ClusterIPs.
    #[schemars(length(min = 1, max = 2), inner(regex(pattern = ADDRESS)))]
    pub targets: Vec<String>,
    /// Ports that are served.
    #[schemars(length(min = 1))]
    pub ports: Vec<Port>,
    /// Source addresses that targets see, at most one of each family; default: the cluster interface's own address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(regex(pattern = ADDRESS)))]
    pub snat: Vec<String>,
    /// Networks of the clients that may connect, as `203.0.113.0/24`; none: everybody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = NETWORK)))]
    pub source_ranges: Vec<String>,
}

/// An address that clients use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Vip {
    /// The address with the prefix length of its subnet, as `172.18.0.18/16`.
    #[schemars(regex(pattern = NETWORK))]
    pub address: String,
    /// The subnet's router; without one only clients inside the subnet are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = ADDRESS))]
    pub gateway: Option<String>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// Name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limits::MAX_PORT_NAME), regex(pattern = NAME))]
    pub name: Option<String>,
    /// Transport protocol; default `TCP`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Port of the VIP.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Port of the targets; default: the same as `port`. SCTP cannot change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u16>,
}

impl File {
    /// The version that this release reads and writes.
    pub const VERSION: u32 = 1;

    /// The file's text.
    ///
    /// # Errors
    /// None for data that came from a [`Config`]; the serializer's own otherwise.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }
}

/// The file that reads as `config`, with every setting of the gateway written out.
impl From<&Config> for File {
    fn from(config: &Config) -> Self {
        Self {
            version: Self::VERSION,
            gateway: Some((&config.gateway).into()),
            services: config.services.iter().map(Service::from).collect(),
        }
    }
}

impl From<&model::Gateway> for Gateway {
    fn from(gateway: &model::Gateway) -> Self {
        Self {
            external_interface: Some(gateway.external_interface.clone()),
            cluster_interface: Some(gateway.cluster_interface.clone()),
            cluster_gateways: strings(&gateway.cluster_gateways),
            table: Some(gateway.table),
            max_flows: Some(gateway.max_flows),
            timeouts: Some(gateway.timeouts.into()),
            icmp_errors_per_second: Some(gateway.icmp_errors_per_second),
            attach: Some(gateway.attach),
            admin_port: Some(gateway.admin_port),
        }
    }
}

impl From<model::Timeouts> for Timeouts {
    fn from(timeouts: model::Timeouts) -> Self {
        let write = |seconds| Some(duration::write(seconds));
        Self {
            tcp_half_open: write(timeouts.tcp_half_open),
            tcp_established: write(timeouts.tcp_established),
            tcp_fin: write(timeouts.tcp_fin),
            tcp_time_wait: write(timeouts.tcp_time_wait),
            tcp_closed: write(timeouts.tcp_closed),
            udp_unreplied: write(timeouts.udp_unreplied),
            udp_stream: write(timeouts.udp_stream),
            sctp_unreplied: write(timeouts.sctp_unreplied),
            sctp_established: write(timeouts.sctp_established),
        }
    }
}

impl From<&model::Service> for Service {
    fn from(service: &model::Service) -> Self {
        Self {
            name: service.name.clone(),
            vips: service.vips.iter().map(Vip::from).collect(),
            targets: strings(&service.targets),
            ports: service.ports.iter().map(Port::from).collect(),
            snat: strings(&service.snat),
            source_ranges: strings(&service.source_ranges),
        }
    }
}

impl From<&model::Vip> for Vip {
    fn from(vip: &model::Vip) -> Self {
        Self { address: vip.address.to_string(), gateway: vip.gateway.map(|gateway| gateway.to_string()) }
    }
}

impl From<&model::Port> for Port {
    fn from(port: &model::Port) -> Self {
        Self {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            target_port: Some(port.target_port),
        }
    }
}

fn strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}
