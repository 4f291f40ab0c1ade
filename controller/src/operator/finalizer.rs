//! Our finalizer: while it is there, the Service stays until what it holds is freed.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::Failure;
use super::writer::{WriteError, Writer};

/// Marks Services that hold a gateway or an address.
pub const FINALIZER: &str = "sluice.io/lb-svc";

/// Whether `service` has it.
pub fn has(service: &Service) -> bool {
    service.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Adds it, if it is missing.
pub async fn add(writer: &Writer, service: &Service) -> Result<(), Failure> {
    if has(service) { Ok(()) } else { set(writer, service, true).await }
}

/// Removes it. That the Service is gone is no failure.
pub async fn remove(writer: &Writer, service: &Service) -> Result<(), Failure> {
    match set(writer, service, false).await {
        Err(Failure::Write(WriteError::NotFound(_))) => Ok(()),
        result => result,
    }
}

/// The list is written as a whole, so only to the Service as it is now.
async fn set(writer: &Writer, service: &Service, wanted: bool) -> Result<(), Failure> {
    let api: Api<Service> =
        Api::namespaced(writer.client().clone(), &service.namespace().unwrap_or_default());
    let name = service.name_any();
    let live = api.get_opt(&name).await?.filter(|live| live.uid() == service.uid());
    let Some(live) = live.filter(|live| !wanted || live.metadata.deletion_timestamp.is_none()) else {
        // Nothing may be given to a Service that will not say when it is through with it.
        let gone = WriteError::NotFound(format!("Service {name} is gone, or about to go"));
        return if wanted { Err(gone.into()) } else { Ok(()) };
    };
    if has(&live) == wanted {
        return Ok(());
    }
    let others = live.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(wanted.then(|| FINALIZER.to_owned())).collect();
    let patch = json!({ "metadata": {
        "uid": live.uid(),
        "resourceVersion": live.resource_version(),
        "finalizers": finalizers,
    }});
    writer.merge(&api, &name, &patch).await?;
    Ok(())
}
