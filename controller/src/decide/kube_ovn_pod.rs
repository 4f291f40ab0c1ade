//! Addresses that Kube-OVN gives to gateway pods, in their annotations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::publication::parse;
use crate::api::{Provider, Subnet, annotation};
use crate::ipam::{Family, matching};

/// What Kube-OVN has given to a living pod, one address of each of `families`: those that are `preferred`, or any where that says `None`.
/// `None`: no pod has them all.
pub fn carrier(
    pods: &[Arc<Pod>],
    provider: &Provider,
    subnet: &Subnet,
    families: &[Family],
    preferred: &[Option<IpAddr>],
) -> Option<Vec<IpAddr>> {
    let living = pods.iter().filter(|pod| is_living(pod));
    living
        .filter_map(|pod| given(pod, provider, subnet))
        .find_map(|given| matching(&given, families, preferred))
}

/// Whether Kube-OVN has ever given an address of `subnet` to one of the pods, dying ones included.
pub fn gives_to_pods(pods: &[Arc<Pod>], provider: &Provider, subnet: &Subnet) -> bool {
    pods.iter().any(|pod| given(pod, provider, subnet).is_some())
}

/// The living pod that a node was chosen for and that Kube-OVN has given nothing yet. Before it has a node, it gets nothing.
pub fn unanswered_pod<'a>(
    pods: &'a [Arc<Pod>],
    provider: &Provider,
    subnet: &Subnet,
) -> Option<&'a Arc<Pod>> {
    pods.iter().find(|pod| {
        let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        is_living(pod) && has_node && given(pod, provider, subnet).is_none()
    })
}

/// The addresses that the pod template asks for: what the Service has been given before, where it is of the same Subnet.
pub fn remembered(deployment: Option<&Deployment>, provider: &Provider, subnet: &Subnet) -> Vec<IpAddr> {
    let template = deployment.and_then(|deployment| deployment.spec.as_ref()?.template.metadata.as_ref());
    let annotations = template.and_then(|metadata| metadata.annotations.as_ref());
    annotations.map(|annotations| addresses(annotations, provider, subnet)).unwrap_or_default()
}

/// What Kube-OVN has given to `pod`. A pod made from a template that asks for addresses has them in its annotations from the start;
/// only `allocated`, which is Kube-OVN's alone, says that it has them.
fn given(pod: &Pod, provider: &Provider, subnet: &Subnet) -> Option<Vec<IpAddr>> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let allocated = annotations.get(&annotation::of_provider(provider, "allocated"));
    let given = addresses(annotations, provider, subnet);
    (allocated.is_some_and(|allocated| allocated == "true") && !given.is_empty()).then_some(given)
}

fn addresses(annotations: &BTreeMap<String, String>, provider: &Provider, subnet: &Subnet) -> Vec<IpAddr> {
    if annotations.get(&annotation::logical_switch(provider)).map(String::as_str) != Some(subnet.name()) {
        return Vec::new();
    }
    let text = annotations.get(&annotation::of_provider(provider, "ip_address"));
    text.map(|text| parse(text).collect()).unwrap_or_default()
}

fn is_living(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAD: &str = "net.default";

    fn provider() -> Provider {
        NAD.parse().unwrap()
    }

    fn subnet(name: &str) -> Subnet {
        Subnet::new(name, crate::api::SubnetSpec::default())
    }

    fn annotations(subnet: &str, addresses: &str, allocated: &str) -> Value {
        json!({
            format!("{NAD}.kubernetes.io/logical_switch"): subnet,
            format!("{NAD}.kubernetes.io/ip_address"): addresses,
            format!("{NAD}.kubernetes.io/allocated"): allocated,
        })
    }

    fn pod(node: Option<&str>, annotations: Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "pod", "annotations": annotations}, "spec": {"nodeName": node, "containers": []},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn found(pods: &[Arc<Pod>], families: &[Family], preferred: &[Option<&str>]) -> Option<Vec<String>> {
        let preferred: Vec<Option<IpAddr>> =
            preferred.iter().map(|text| text.map(|text| text.parse().unwrap())).collect();
        let found = carrier(pods, &provider(), &subnet("external"), families, &preferred)?;
        Some(found.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn only_what_kube_ovn_has_allocated_is_given() {
        let v4 = [Family::V4];
        let allocated = [pod(Some("node"), annotations("external", "172.18.0.11", "true"))];
        assert_eq!(found(&allocated, &v4, &[None]).unwrap(), ["172.18.0.11"]);
        assert_eq!(found(&allocated, &v4, &[Some("172.18.0.11")]).unwrap(), ["172.18.0.11"]);
        assert_eq!(found(&allocated, &v4, &[Some("172.18.0.12")]), None);
        assert_eq!(
            found(&[pod(Some("node"), annotations("external", "172.18.0.11", "false"))], &v4, &[None]),
            None
        );
        assert_eq!(
            found(&[pod(Some("node"), annotations("other", "172.18.0.11", "true"))], &v4, &[None]),
            None
        );
        assert_eq!(found(&[pod(Some("node"), annotations("external", "", "true"))], &v4, &[None]), None);
        assert_eq!(found(&[], &v4, &[None]), None);
    }

    #[test]
    fn both_families_in_the_order_of_the_service() {
        let both = [pod(Some("node"), annotations("external", "172.18.0.11,fd00::11", "true"))];
        let families = [Family::V6, Family::V4];
        assert_eq!(found(&both, &families, &[None, None]).unwrap(), ["fd00::11", "172.18.0.11"]);
        assert_eq!(found(&both, &families, &[Some("fd00::12"), None]), None);
        assert_eq!(found(&both, &[Family::V6], &[None]).unwrap(), ["fd00::11"]);
        let one = [pod(Some("node"), annotations("external", "172.18.0.11", "true"))];
        assert_eq!(found(&one, &families, &[None, None]), None);
    }

    #[test]
    fn dying_pods_show_how_kube_ovn_works_but_carry_nothing() {
        let mut dying =
            Arc::unwrap_or_clone(pod(Some("node"), annotations("external", "172.18.0.11", "true")));
        dying.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let pods = [Arc::new(dying)];
        assert_eq!(found(&pods, &[Family::V4], &[None]), None);
        assert!(gives_to_pods(&pods, &provider(), &subnet("external")));
        assert!(!gives_to_pods(&pods, &provider(), &subnet("other")));
        assert_eq!(unanswered_pod(&pods, &provider(), &subnet("external")), None);
    }

    #[test]
    fn a_pod_waits_once_it_has_a_node() {
        let waits = |node, annotations| {
            unanswered_pod(&[pod(node, annotations)], &provider(), &subnet("external")).is_some()
        };
        assert!(!waits(None, json!({})));
        assert!(waits(Some("node"), json!({})));
        assert!(waits(Some("node"), annotations("external", "172.18.0.11", "")));
        assert!(!waits(Some("node"), annotations("external", "172.18.0.11", "true")));
    }

    #[test]
    fn the_template_remembers_for_its_subnet() {
        let deployment: Deployment = serde_json::from_value(json!({"spec": {
            "selector": {},
            "template": {"metadata": {"annotations": annotations("external", "172.18.0.11,fd00::11", "")}},
        }}))
        .unwrap();
        let remembered = |name| remembered(Some(&deployment), &provider(), &subnet(name)).len();
        assert_eq!((remembered("external"), remembered("other")), (2, 0));
    }
}
