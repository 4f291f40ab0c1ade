//! The Deployment of the gateway pod.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Inputs, in_order, metadata, pod};
use crate::Refusal;
use crate::api::annotation;

/// The Deployment of the Service.
///
/// Its template depends on what a running pod cannot change: networks, Subnet, families, settings and addresses.
/// Everything else reaches the pod by its file.
///
/// # Errors
/// The Service's own memory limit is less than the gateway's maps take.
pub fn deployment(inputs: &Inputs<'_>) -> Result<Deployment, Refusal> {
    let service = inputs.service;
    let mut deployment = Deployment {
        metadata: metadata::child(service),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            // Two pods with one VIP would disturb each other: the old one goes first.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            // A rollback would be undone at once: nothing is kept for one.
            revision_history_limit: Some(0),
            selector: LabelSelector {
                match_labels: Some(metadata::pods_of(service)),
                ..LabelSelector::default()
            },
            template: pod::template(inputs)?,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let template = metadata::hash_of(service, &template)?;
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::APPLIED_TEMPLATE.to_owned(), template);
    metadata::mark_applied(service, &mut deployment)?;
    Ok(deployment)
}

/// Whether to apply `wanted` makes a new pod of `live`: a field of the template differs, or one is no longer wanted.
pub fn replaces_pod(wanted: &Deployment, live: &Deployment) -> bool {
    let hash = |deployment: &Deployment| {
        deployment.metadata.annotations.as_ref()?.get(annotation::APPLIED_TEMPLATE).cloned()
    };
    let template = |deployment: &Deployment| deployment.spec.as_ref().map(|spec| spec.template.clone());
    hash(wanted) != hash(live) || !in_order(&template(wanted), &template(live))
}

/// Whether the pod of `deployment` is of its present template, and available.
pub fn is_rolled_out(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas == Some(1)
            && status.available_replicas == Some(1)
    })
}

/// Whether all pods of `deployment` are of its present template, whether they are available or not.
pub fn has_only_new_pods(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas == Some(1)
            && status.replicas == Some(1)
    })
}
