//! What a Service's gateway is told, and what is left when it goes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use sluice_controller::api::Subnet;

use super::{Network, World};
use crate::wait;

impl World {
    /// The gateway's file of a Service, as its ConfigMap has it; `None` if there is none.
    pub async fn gateway_file(&self, service: &str) -> Option<String> {
        let map = self.api::<ConfigMap>().get_opt(&format!("lb-svc-{service}")).await.unwrap()?;
        map.data.unwrap_or_default().remove("gateway.yaml")
    }

    /// What that file says of the Service; null if there is none.
    pub async fn gateway_says(&self, service: &str) -> Value {
        let Some(text) = self.gateway_file(service).await else { return Value::Null };
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        file["services"][0].clone()
    }

    /// Waits until the file says this in the field of the Service that a JSON pointer names; null: nothing.
    pub async fn gateway_told(&self, service: &str, pointer: &str, expected: Value) {
        let what = format!("{pointer} of {service}'s file is {expected}");
        wait::eventually(&what, async || {
            let says = self.gateway_says(service).await;
            (says.pointer(pointer).unwrap_or(&Value::Null) == &expected).then_some(())
        })
        .await;
    }

    /// Changes fields of a Subnet (RFC 7396).
    pub async fn patch_subnet(&self, network: &Network, patch: Value) {
        let api: Api<Subnet> = self.cluster_api();
        api.patch(&network.subnet, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until Sluice has nothing to do with a Service any more, be it deleted or somebody else's: no workload, no pod, no
    /// address of the network, no finalizer, no status.
    pub async fn left(&self, service: &str, network: &Network) {
        let name = format!("lb-svc-{service}");
        self.gone::<Deployment>(&name).await;
        self.gone::<ConfigMap>(&name).await;
        wait::eventually(&format!("nothing of Service {service} is left"), async || {
            let held = self.reservations(network).await;
            let live = self.api::<Service>().get_opt(service).await.unwrap();
            let clean = live.is_none_or(|live| live.finalizers().is_empty() && super::vips(&live).is_empty());
            let held = held.iter().any(|reservation| {
                let holder = &reservation.spec.service;
                holder.namespace == self.namespace && holder.name == service
            });
            (clean && !held && self.gateway_pods(service).await.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until a Service's status shows this address and no other.
    pub async fn published_at(&self, service: &str, address: &str) {
        wait::eventually(&format!("Service {service} is published at {address}"), async || {
            (self.vips(service).await == [address]).then_some(())
        })
        .await;
    }

    /// An annotation of a pod; empty if it has none.
    pub fn annotation(pod: &Pod, key: &str) -> String {
        pod.annotations().get(key).cloned().unwrap_or_default()
    }
}

/// A merge patch of one annotation; null removes it.
pub fn annotate(key: &str, value: impl Into<Value>) -> Value {
    json!({ "metadata": { "annotations": { key: value.into() } } })
}
