//! The objects that a Service should have. Pure.
//!
//! ```text
//! settings     what the Service's annotations say about its gateway pod, over the controller's defaults
//! config_map   the gateway's file
//! deployment   its pod: nothing in the template changes while ports, ranges, prefixes or routers are edited
//! pod_annotations   what is written on the live pod instead
//! in_order     is an object as it should be, or is a write due
//! ```

mod annotations;
mod config_map;
mod deployment;
pub(crate) mod hash;
mod in_order;
mod memory;
mod metadata;
mod parse;
mod pod;
mod quantity;
mod resources;
mod settings;

use k8s_openapi::api::core::v1::Service;
use sluice_gateway::config::file::File;

pub use annotations::{AddressesBy, pod_annotations};
pub use config_map::config_map;
pub use deployment::{deployment, has_only_new_pods, is_rolled_out, replaces_pod};
pub use in_order::{in_order, without_others};
pub use metadata::{MANAGED_BY, is_ours, is_pod_of, name, pods_of};
pub use parse::{NotASetting, max_flows, node_selector, resources, tolerations};
pub use settings::{Defaults, Seccomp, Settings, settings};

use crate::api::{NetworkConfig, Provider, Subnet};
use crate::ipam::Choice;

/// What the objects of one Service are made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The Service, as the API server has it.
    pub service: &'a Service,
    /// Its network.
    pub provider: &'a Provider,
    /// What that network's definition says.
    pub network: &'a NetworkConfig,
    /// The Subnet of its addresses.
    pub subnet: &'a Subnet,
    /// Its addresses, in the order of its families.
    pub vips: &'a [Choice],
    /// What its gateway reads.
    pub file: &'a File,
    /// How its pod is to be.
    pub settings: &'a Settings,
    /// Whether the pod template names the addresses (`<P>.kubernetes.io/ip_address`): as soon as there are any, so that other
    /// addresses need another pod, and the old ones are unused once the old pod is gone.
    pub template_addresses: bool,
}
