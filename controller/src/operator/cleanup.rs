//! The way out, in the order in which nothing is given to somebody else while a packet may still reach its former owner.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

use super::addresses::Addresses;
use super::children::{self, ChildKind};
use super::context::Context;
use super::events::Events;
use super::writer::Writer;
use super::{Failure, finalizer, status};
use crate::api::Holder;
use crate::desired;
use crate::events::EventReason;

/// How soon to look again for a pod that is about to go. The watch tells; this is for what it cannot tell.
const AGAIN: Duration = Duration::from_secs(5);
/// A pod ends within its grace period, which is shorter than this.
const OVERDUE: Duration = Duration::from_secs(10);

/// What a Service still has of us.
pub enum Left {
    /// Nothing.
    Nothing,
    /// A pod, which has the address. In words.
    Pod(String),
    /// Objects that are being deleted.
    Objects,
}

/// A pass over a Service that leaves.
pub async fn pass(service: &Service, context: &Context) -> Result<Action, Failure> {
    match leave(service, &context.writer, &context.events, &context.addresses).await? {
        Left::Nothing => {
            context.forget(service);
            return Ok(Action::await_change());
        }
        Left::Pod(pod) => {
            let since = context.unserved_since(service, false);
            if since.is_some_and(|since| since.elapsed() >= OVERDUE) {
                context.events.tell(service, EventReason::Waiting, &pod).await;
            }
        }
        Left::Objects => {}
    }
    Ok(Action::requeue(AGAIN))
}

/// Takes away everything that `service` has of us: the address from its status, the workload, and, once its pods are seen gone, the
/// addresses. The finalizer goes last. To be called again until nothing is left.
pub async fn leave(
    service: &Service,
    writer: &Writer,
    events: &Events,
    addresses: &Addresses,
) -> Result<Left, Failure> {
    if service.metadata.deletion_timestamp.is_none() && status::show(writer, service, &[]).await? {
        events.tell(service, EventReason::Withdrawn, "the Service is no longer served by Sluice").await;
    }
    let name = desired::name(service);
    let workload_gone = gone::<Deployment>(service, writer, &name).await?;
    // A Deployment that is being deleted stays until its pods are gone, so it must not hide them.
    if let Some(pod) = pods(service, writer).await?.first() {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
        return Ok(Left::Pod(format!(
            "pod {} on {node} still has the address; it is freed once the pod is gone (if the node is dead for good: kubectl delete pod --force)",
            pod.name_any()
        )));
    }
    if !workload_gone || !gone::<ConfigMap>(service, writer, &name).await? {
        return Ok(Left::Objects);
    }
    addresses.release_all(&Holder::of(service)).await?;
    finalizer::remove(writer, service).await?;
    Ok(Left::Nothing)
}

/// Deletes our child `name`; true once it is not there. Somebody else's does not count.
async fn gone<K: ChildKind>(service: &Service, writer: &Writer, name: &str) -> Result<bool, Failure> {
    let api: Api<K> = children::api(writer, service);
    let Some(live) = api.get_opt(name).await? else { return Ok(true) };
    if !desired::is_ours(live.meta(), service) {
        return Ok(true);
    }
    if live.meta().deletion_timestamp.is_none() {
        writer.delete(&api, name, &live.uid().unwrap_or_default()).await?;
    }
    // Most objects are gone at once; those with finalizers are not.
    Ok(api.get_opt(name).await?.is_none())
}

/// The Service's pods, asked of the API server: what the cache shows may be from before the last one was made.
async fn pods(service: &Service, writer: &Writer) -> Result<Vec<Pod>, Failure> {
    let api: Api<Pod> = children::api(writer, service);
    let labels: Vec<String> =
        desired::pods_of(service).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let params = ListParams::default().labels(&labels.join(","));
    let pods = api.list(&params).await?.items;
    Ok(pods.into_iter().filter(|pod| desired::is_pod_of(service, pod)).collect())
}
