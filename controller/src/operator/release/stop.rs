//! Ends the controllers of a Deployment.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::info;

use super::Progress;
use crate::operator::writer::{FIELD_MANAGER, WriteError};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(1);

/// Scales the Deployment `name` to nothing, and waits until its pods are gone. That there is no such Deployment is no error.
pub async fn stop(client: &Client, namespace: &str, name: &str, progress: &Progress) {
    let scale = async || scale(client, namespace, name).await;
    let Some(selector) = progress.attempt(AGAIN, scale).await else {
        info!(deployment = name, namespace, "there is no such Deployment: nothing to stop");
        return;
    };
    info!(deployment = name, namespace, "stopping the controller");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&selector);
    loop {
        let list = async || {
            let list = pods.list(&params).await.map_err(WriteError::from);
            list.context("looking for pods of the controller")
        };
        let running: Vec<String> = progress.attempt(AGAIN, list).await.iter().map(describe).collect();
        if running.is_empty() {
            return;
        }
        progress.waits(&running);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Asks for no replicas. Returns the labels of its pods, as a selector; `None`: there is no such Deployment.
async fn scale(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<String>> {
    let what = || format!("scaling Deployment {namespace}/{name} to 0");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    match deployments.patch_scale(name, &params, &none).await {
        Ok(scale) => {
            let selector = scale.status.and_then(|status| status.selector);
            // Without one, every pod would be taken for the controller's.
            let selector = selector.filter(|selector| !selector.is_empty());
            Ok(Some(selector.context("its answer names no pods").with_context(what)?))
        }
        Err(error) => match WriteError::from(error) {
            WriteError::NotFound(_) => Ok(None),
            error => Err(error).with_context(what),
        },
    }
}

fn describe(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    format!(
        "pod {} of the controller, on {node}, still runs (if the node is dead for good: kubectl delete pod --force)",
        pod.name_any()
    )
}
