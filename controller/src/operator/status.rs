//! What a Service's status shows.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::Failure;
use super::writer::Writer;

/// What the status shows.
pub fn shown(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

/// Makes the status show exactly `wanted`. True if that was a change.
pub async fn show(
    writer: &Writer,
    service: &Service,
    wanted: &[LoadBalancerIngress],
) -> Result<bool, Failure> {
    if shows(service, wanted) {
        return Ok(false);
    }
    let api: Api<Service> =
        Api::namespaced(writer.client().clone(), &service.namespace().unwrap_or_default());
    // The cache may not show our last write yet.
    let live = api.get_opt(&service.name_any()).await?.filter(|live| live.uid() == service.uid());
    if live.is_none_or(|live| shows(&live, wanted)) {
        return Ok(false);
    }
    // An empty list and none are the same; none is what a Service has that never had one.
    let ingress = if wanted.is_empty() { json!(null) } else { json!(wanted) };
    let patch = json!({
        "metadata": { "uid": service.uid() },
        "status": { "loadBalancer": { "ingress": ingress } },
    });
    writer.merge_status(&api, &service.name_any(), &patch).await?;
    Ok(true)
}

/// Whether the status shows `wanted`. API servers before 1.30 drop `ipMode`, and say nothing of ports.
fn shows(service: &Service, wanted: &[LoadBalancerIngress]) -> bool {
    let same = |(shown, wanted): (&LoadBalancerIngress, &LoadBalancerIngress)| {
        shown.ip == wanted.ip
            && shown.hostname == wanted.hostname
            && shown.ip_mode.as_ref().is_none_or(|mode| Some(mode) == wanted.ip_mode.as_ref())
    };
    let shown = shown(service);
    shown.len() == wanted.len() && shown.iter().zip(wanted).all(same)
}
