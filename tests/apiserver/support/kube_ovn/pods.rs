//! Addresses of pods.

use std::net::IpAddr;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use sluice_controller::api::{NetworkAttachmentDefinition, Subnet};

use super::pool::Pool;
use super::{Cluster, Version};

/// Where Multus looks for a pod's networks: `<namespace>/<name>`, or a name in the pod's own namespace.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The addresses of this Subnet that the pod has been given.
pub fn addresses(pod: &Pod, subnet: &Subnet) -> Vec<IpAddr> {
    let key = |field: &str| format!("{}.kubernetes.io/{field}", subnet.spec.provider);
    let given = pod.annotations().get(&key("allocated")).is_some_and(|value| value == "true");
    if given { requested(pod, &key("ip_address")) } else { Vec::new() }
}

fn requested(pod: &Pod, key: &str) -> Vec<IpAddr> {
    let text = pod.annotations().get(key).map(String::as_str).unwrap_or_default();
    text.split(',').filter_map(|address| address.trim().parse().ok()).collect()
}

impl Cluster {
    /// Gives the pod addresses of this Subnet, if it is attached to its network and has none.
    pub(super) async fn answer_pod(&mut self, pod: &Pod, subnet: &Subnet, pool: &mut Pool) -> Result<()> {
        let key = |field: &str| format!("{}.kubernetes.io/{field}", subnet.spec.provider);
        let annotations = pod.annotations();
        let named = annotations.get(&key("logical_switch"));
        let is_given = annotations.get(&key("allocated")).is_some_and(|value| value == "true");
        if is_given
            || named.is_some_and(|name| *name != subnet.name_any())
            || !self.allocates_for(pod, subnet).await?
        {
            return Ok(());
        }
        let chosen = match pool.take(&requested(pod, &key("ip_address"))) {
            Ok(chosen) => chosen,
            Err(refusal) => return self.refuse(pod, &refusal).await,
        };
        let texts: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        let patch = json!({ "metadata": { "uid": pod.uid(), "annotations": {
            key("allocated"): "true",
            key("cidr"): subnet.spec.cidr_block,
            key("gateway"): subnet.spec.gateway,
            key("ip_address"): texts.join(","),
            key("logical_switch"): subnet.name_any(),
        } } });
        self.pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Whether this release gives the pod addresses of the Subnet's network.
    async fn allocates_for(&self, pod: &Pod, subnet: &Subnet) -> Result<bool> {
        let own = pod.namespace().unwrap_or_default();
        let networks = pod.annotations().get(NETWORKS).map(String::as_str).unwrap_or_default();
        for network in networks.split(',').map(str::trim) {
            let (namespace, name) = network.split_once('/').unwrap_or((&own, network));
            if format!("{name}.{namespace}") != subnet.spec.provider {
                continue;
            }
            if self.version == Version::V1_16 {
                return Ok(true);
            }
            let api: Api<NetworkAttachmentDefinition> = Api::namespaced(self.client.clone(), namespace);
            let Some(network) = api.get_opt(name).await? else { return Ok(false) };
            // With a comment in it, it is no JSON.
            let config: Value = serde_json::from_str(&network.spec.config).unwrap_or_default();
            return Ok(config["ipam"]["type"] == "kube-ovn");
        }
        Ok(false)
    }

    /// Says by an Event on the pod why it gets no address, once.
    async fn refuse(&mut self, pod: &Pod, refusal: &str) -> Result<()> {
        let telling = (pod.uid().unwrap_or_default(), refusal.to_owned());
        if self.told.contains(&telling) {
            return Ok(());
        }
        let now = Time(Timestamp::now());
        let namespace = pod.namespace();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", pod.name_any())),
                namespace: namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference { namespace: namespace.clone(), ..pod.object_ref(&()) },
            type_: Some("Warning".to_owned()),
            reason: Some("AcquireAddressFailed".to_owned()),
            message: Some(refusal.to_owned()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace.unwrap_or_default());
        events.create(&PostParams::default(), &event).await?;
        self.told.push(telling);
        Ok(())
    }
}
