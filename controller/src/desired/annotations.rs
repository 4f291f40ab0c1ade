//! Annotations of gateway pods: those of the template, and those of the live pod.

use std::collections::BTreeMap;

use super::{Inputs, config_map, hash};
use crate::Refusal;
use crate::api::annotation;
use crate::ipam::Choice;

/// Who writes a pod's addresses on the live pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressesBy {
    /// Sluice, whose own reservation it is.
    Us,
    /// Kube-OVN; Sluice only reads them.
    KubeOvn,
}

/// Annotations of the live pod: what may change while it serves. A changed annotation makes the kubelet refresh the pod's volumes at
/// once, so a new file is there within seconds.
///
/// # Errors
/// The file cannot be written as text.
pub fn pod_annotations(inputs: &Inputs<'_>, by: AddressesBy) -> Result<BTreeMap<String, String>, Refusal> {
    let mut annotations = BTreeMap::new();
    if by == AddressesBy::Us {
        let key = |name| annotation::of_provider(inputs.provider, name);
        // Where the template has the addresses, a pod is born with them and dies with them: one that still has others is not told that it
        // had these.
        if !inputs.template_addresses {
            annotations.insert(key("ip_address"), addresses(inputs.vips));
        }
        annotations.insert(key("cidr"), joined(inputs.vips, |vip| Some(vip.address.trunc().to_string())));
        annotations.insert(key("gateway"), joined(inputs.vips, |vip| Some(vip.gateway?.to_string())));
        annotations.insert(key("allocated"), "true".to_owned());
    }
    let file = config_map::text(inputs)?;
    annotations.insert(annotation::CONFIG_HASH.to_owned(), hash::of_content(file.as_bytes()));
    Ok(annotations)
}

/// Annotations of the pod template: what a running pod cannot change.
pub(super) fn of_template(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let provider = inputs.provider;
    let mut annotations = BTreeMap::from([
        (annotation::NETWORKS.to_owned(), format!("{}/{}", provider.namespace, provider.nad)),
        (annotation::logical_switch(provider), inputs.subnet.name().to_owned()),
        // A pod has its interfaces from when it started.
        (
            annotation::NETWORK_HASH.to_owned(),
            hash::of_content(inputs.network.content.to_string().as_bytes()),
        ),
    ]);
    if let Some(uid) = &inputs.service.metadata.uid {
        annotations.insert(annotation::SERVICE_UID.to_owned(), uid.clone());
    }
    if let Some(subnet) = annotation::get(inputs.service, annotation::CLUSTER_LOGICAL_SWITCH) {
        annotations.insert(annotation::CLUSTER_LOGICAL_SWITCH.to_owned(), subnet.to_owned());
    }
    if inputs.template_addresses {
        annotations.insert(annotation::of_provider(provider, "ip_address"), addresses(inputs.vips));
    }
    annotations
}

fn addresses(vips: &[Choice]) -> String {
    joined(vips, |vip| Some(vip.address.addr().to_string()))
}

/// `text` of each VIP, IPv4 first, as Kube-OVN writes both families.
fn joined(vips: &[Choice], text: impl Fn(&Choice) -> Option<String>) -> String {
    let mut vips: Vec<&Choice> = vips.iter().collect();
    vips.sort_by_key(|vip| vip.address.addr().is_ipv6());
    vips.into_iter().filter_map(text).collect::<Vec<_>>().join(",")
}
