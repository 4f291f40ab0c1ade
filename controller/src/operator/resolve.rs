//! What a Service refers to, from the caches, without a write.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use super::caches::Caches;
use crate::Refusal;
use crate::api::{NetworkConfig, Provider, Subnet};
use crate::desired::{self, Defaults, Settings};
use crate::events::Warning;
use crate::families::{cluster_ips, served};
use crate::gateway_file;
use crate::ipam::{Family, Pools};
use crate::render::warnings;
use crate::select::{attachment, subnet};

/// What a Service refers to.
pub struct Resolved {
    /// What its network is.
    pub network: NetworkConfig,
    /// The Subnet that gives its addresses.
    pub subnet: Arc<Subnet>,
    /// The Subnet's pools.
    pub pools: Pools,
    /// Where its gateway sends to.
    pub cluster_ips: Vec<IpAddr>,
    /// The families that it is served on.
    pub families: Vec<Family>,
    /// How its pod is to be.
    pub settings: Settings,
    /// What works otherwise than its author may expect.
    pub warnings: Vec<Warning>,
}

/// Resolves `service`, which is ours on `provider`.
///
/// # Errors
/// The first thing that keeps it from being served.
pub fn resolve(
    service: &Service,
    provider: &Provider,
    caches: &Caches,
    defaults: &Defaults,
) -> Result<Resolved, Refusal> {
    let networks = caches.networks.state();
    let attachment = attachment(service, provider, &networks)?;
    let network = attachment.network()?;
    let warnings = warnings(service, attachment, &network);
    let subnets = caches.subnets.state();
    let subnet = subnet(service, provider, &subnets)?;
    let pools = Pools::of(subnet)?;
    let cluster_ips = cluster_ips(service)?;
    let families = served(service, &cluster_ips, subnet, &pools)?;
    let settings = desired::settings(service, defaults)?;
    gateway_file::check(service, &families)?;
    Ok(Resolved { network, subnet: subnet.clone(), pools, cluster_ips, families, settings, warnings })
}
