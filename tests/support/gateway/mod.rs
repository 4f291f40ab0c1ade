//! The gateways that the tests put into the pod: Sluice, and the iptables rules that it replaces.

mod iptables;
mod kube_ovn;
mod nftables;
mod sandbox;
mod sluice;

use anyhow::Result;
use ipnet::IpNet;
use sluice_gateway::config::Attach;

pub use iptables::{FORWARDING, Iptables, route};
pub use kube_ovn::KubeOvnPod;
pub use nftables::Nftables;
pub use sluice::{Sluice, gateway_file};

use crate::kube_proxy::{ClusterIp, Protocol};
use crate::topology::Topology;

/// Something that serves the VIP from the pod.
pub trait GatewayUnderTest {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Makes the pod serve `spec`, and returns when it does. What it served before is replaced.
    ///
    /// # Errors
    /// When it does not serve in time.
    fn serve(&mut self, topology: &Topology, spec: &Spec) -> Result<()>;
}

/// What a gateway serves.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Services; the first has the plan's VIP, the second its other VIP.
    pub services: Vec<Service>,
    /// `name: seconds` of the timeouts that differ from the defaults, for gateways that have them.
    pub timeouts: Vec<(&'static str, u32)>,
    /// Flows per family, where it matters.
    pub max_flows: Option<u32>,
    /// ICMP errors per second and CPU, where there is to be a limit.
    pub icmp_errors_per_second: Option<u32>,
    /// By which hook packets from clients are taken, where it matters.
    pub attach: Option<Attach>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `<namespace>/<name>`.
    pub name: String,
    /// Where its packets go.
    pub cluster_ip: ClusterIp,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Clients that may connect; empty: everybody.
    pub source_ranges: Vec<IpNet>,
    /// Whether the external subnet has a router.
    pub has_router: bool,
}

impl Service {
    /// A service as the seed has it: the main ClusterIP, any client.
    pub fn new(ports: &[Port]) -> Self {
        Self {
            name: "default/test-service".to_owned(),
            cluster_ip: ClusterIp::Main,
            ports: ports.to_vec(),
            source_ranges: Vec::new(),
            has_router: true,
        }
    }
}

/// One port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Of the VIP.
    pub port: u16,
    /// Of the ClusterIP.
    pub target_port: u16,
}

impl Port {
    /// A port that is the same on VIP and ClusterIP.
    pub const fn new(protocol: Protocol, port: u16) -> Self {
        Self { protocol, port, target_port: port }
    }
}

impl Spec {
    /// One service with these ports.
    pub fn of(ports: &[Port]) -> Self {
        Self { services: vec![Service::new(ports)], ..Self::default() }
    }
}
