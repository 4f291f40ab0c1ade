//! Names, labels and owners of a Service's objects, and whose an object is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;

use super::hash;
use crate::Refusal;
use crate::api::{annotation, describe_service, namespace};

/// Label and its value on all that this controller makes; its watches are restricted to it.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sluice-controller");

/// Longest value of a label.
const MAX_LABEL: usize = 63;

/// Name of the Service's Deployment and ConfigMap. Kube-OVN's own garbage collection spares it only in this form.
pub fn name(service: &Service) -> String {
    format!("lb-svc-{}", service_name(service))
}

/// The labels that the Deployment selects its pods by.
pub fn pods_of(service: &Service) -> BTreeMap<String, String> {
    [
        ("app", name(service)),
        ("namespace", namespace(&service.metadata).to_owned()),
        ("service", service_name(service).to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), label_value(value)))
    .collect()
}

/// Whether `pod` was made for this Service, and not for another one that had its name before.
pub fn is_pod_of(service: &Service, pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let uid = annotations.and_then(|annotations| annotations.get(annotation::SERVICE_UID));
    let labels = pod.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
    uid.is_some()
        && uid == service.metadata.uid.as_ref()
        && namespace(&pod.metadata) == namespace(&service.metadata)
        && pods_of(service).iter().all(has)
}

/// Whether the object of `metadata` belongs to this very Service: by the UID in its owner reference.
pub fn is_ours(metadata: &ObjectMeta, service: &Service) -> bool {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let owns = |owner: &OwnerReference| {
        owner.kind == "Service"
            && owner.controller == Some(true)
            && service.metadata.uid.as_ref() == Some(&owner.uid)
    };
    owners.iter().any(owns)
}

/// Metadata of a child of `service`.
pub(super) fn child(service: &Service) -> ObjectMeta {
    ObjectMeta {
        name: Some(name(service)),
        namespace: Some(namespace(&service.metadata).to_owned()),
        labels: Some(labels(service)),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: service_name(service).to_owned(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            // The finalizer sees to the order. This would ask for one more permission.
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

/// Labels of all that is made for `service`, pods included.
pub(super) fn labels(service: &Service) -> BTreeMap<String, String> {
    let (key, value) = MANAGED_BY;
    let mut labels = pods_of(service);
    labels.insert(key.to_owned(), value.to_owned());
    labels
}

/// Gives `child` the annotation with the hash of all the rest of it.
pub(super) fn mark_applied<K: Serialize + Resource>(service: &Service, child: &mut K) -> Result<(), Refusal> {
    let hash = hash_of(service, child)?;
    let annotations = child.meta_mut().annotations.get_or_insert_default();
    annotations.insert(annotation::APPLIED.to_owned(), hash);
    Ok(())
}

/// The hash of a part of an object for `service`.
pub(super) fn hash_of<T: Serialize>(service: &Service, part: &T) -> Result<String, Refusal> {
    let text = serde_json::to_vec(part).map_err(|fault| {
        let fault = format!("its objects cannot be written as JSON: {fault}");
        Refusal::new(&describe_service(service), "spec", fault, "report it")
    })?;
    Ok(hash::of_content(&text))
}

fn service_name(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}

/// `value`, or what the original makes of a value that is too long: its beginning, a dash and eight digits of its hash.
fn label_value(value: String) -> String {
    if value.len() <= MAX_LABEL {
        return value;
    }
    // Names are ASCII, so that this is a boundary.
    let kept = value.get(..MAX_LABEL - 9).unwrap_or_default();
    format!("{kept}-{}", hash::hex(value.as_bytes(), 4))
}
