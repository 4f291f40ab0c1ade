//! From a Service and what is known around it to its gateway's file: the way that `render` and the operator share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use sluice_gateway::config::file::File;

use crate::Refusal;
use crate::api::{
    NetworkAttachmentDefinition, NetworkConfig, Provider, Subnet, annotation, describe_service,
};
use crate::desired::{Defaults, settings};
use crate::events::{EventReason, Warning};
use crate::families::{cluster_ips, served};
use crate::gateway_file::gateway_file;
use crate::ipam::{Had, Pools, Taken, choose};
use crate::select::{attachment, subnet};

/// What a Service may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// NetworkAttachmentDefinitions of all namespaces.
    pub attachments: &'a [NetworkAttachmentDefinition],
    /// Subnets.
    pub subnets: &'a [Subnet],
    /// Addresses that are in use.
    pub taken: &'a Taken,
}

/// A gateway's file.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The file.
    pub file: File,
    /// The VIPs in it.
    pub vips: Vec<IpAddr>,
    /// What works otherwise than the Service's or the network's author may expect.
    pub warnings: Vec<Warning>,
}

/// Renders `service`, which [`crate::select::select`] found to be ours on `provider`. `given` are the addresses that the Service
/// has got before, `defaults` the settings where it has none of its own.
///
/// # Errors
/// The first thing that keeps the Service from being served.
pub fn render(
    service: &Service,
    provider: &Provider,
    defaults: &Defaults,
    given: &[IpAddr],
    around: &Surroundings<'_>,
) -> Result<Rendered, Refusal> {
    let attachment = attachment(service, provider, around.attachments)?;
    let network = attachment.network()?;
    let subnet = subnet(service, provider, around.subnets)?;
    let pools = Pools::of(subnet)?;
    let targets = cluster_ips(service)?;
    let families = served(service, &targets, subnet, &pools)?;
    let vips = choose(service, subnet, &pools, &families, Had { held: given, shown: &[] }, around.taken)?;
    let settings = settings(service, defaults)?;
    let file = gateway_file(service, &vips, &targets, settings.max_flows)?;
    let warnings = warnings(service, attachment, &network);
    let vips = vips.iter().map(|vip| vip.address.addr()).collect();
    Ok(Rendered { file, vips, warnings })
}

/// What `service` and its network say that works otherwise than their authors may expect.
pub fn warnings(
    service: &Service,
    attachment: &NetworkAttachmentDefinition,
    network: &NetworkConfig,
) -> Vec<Warning> {
    let mut warnings = service_warnings(service);
    if network.has_comments {
        warnings.insert(0, network_warning(attachment));
    }
    warnings.extend(unknown_annotations(service));
    warnings
}

/// A misspelt annotation would otherwise silently be a default.
fn unknown_annotations(service: &Service) -> Option<Warning> {
    let keys = service.metadata.annotations.iter().flat_map(BTreeMap::keys);
    let ours = keys.map(String::as_str).filter(|key| key.starts_with(annotation::PREFIX));
    let unknown: Vec<&str> = ours.filter(|key| !annotation::OF_SERVICES.contains(key)).collect();
    let message = || {
        let known = annotation::OF_SERVICES.join(", ");
        format!(
            "{}: metadata.annotations[{}]: no annotation of Sluice: it has no effect; Sluice knows {known}",
            describe_service(service),
            unknown.join("], [")
        )
    };
    (!unknown.is_empty()).then(|| Warning { reason: EventReason::UnknownAnnotation, message: message() })
}

fn network_warning(attachment: &NetworkAttachmentDefinition) -> Warning {
    let object = attachment.describe();
    Warning {
        reason: EventReason::CommentInNetwork,
        message: format!(
            "{object}: spec.config: a `//` comment is not JSON: Sluice reads over it, but Multus refuses it; remove it"
        ),
    }
}

/// Settings of a Service that full NAT towards the ClusterIP cannot honour.
fn service_warnings(service: &Service) -> Vec<Warning> {
    let object = describe_service(service);
    let Some(spec) = &service.spec else { return Vec::new() };
    let checks = [
        (
            spec.session_affinity.as_deref() == Some("ClientIP"),
            EventReason::SessionAffinityIgnored,
            "spec.sessionAffinity: ClientIP: the ClusterIP sees the gateway as its only client, so all clients reach one pod; set it to None",
        ),
        (
            spec.external_traffic_policy.as_deref() == Some("Local"),
            EventReason::ExternalTrafficPolicyIgnored,
            "spec.externalTrafficPolicy: Local: has no effect: pods see the gateway's address, on every node; set it to Cluster",
        ),
        (
            spec.internal_traffic_policy.as_deref() == Some("Local"),
            EventReason::InternalTrafficPolicyLocal,
            "spec.internalTrafficPolicy: Local: nothing is reached unless a pod runs on the gateway's node; set it to Cluster",
        ),
    ];
    let warning = |(_, reason, text)| Warning { reason, message: format!("{object}: {text}") };
    checks.into_iter().filter(|(applies, ..)| *applies).map(warning).collect()
}
