//! Manifests, applied as they are.

use anyhow::{Context, Result};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

/// Like `kubectl apply --server-side`: an object without a namespace goes to `default`.
///
/// # Errors
/// The text is no manifest, or the server refuses an object.
pub async fn apply(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in serde_saphyr::from_multiple::<Value>(yaml).context("reading YAML")? {
        let object: DynamicObject = serde_json::from_value(document).context("a manifest")?;
        let types = object.types.as_ref().context("a manifest without a kind")?;
        let what = || format!("applying {} {}", types.kind, object.name_any());
        let kind = GroupVersionKind::try_from(types).with_context(what)?;
        let (resource, capabilities) = pinned_kind(client, &kind).await.with_context(what)?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            }
        };
        let params = PatchParams::apply("kubectl").force();
        applied
            .push(api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.with_context(what)?);
    }
    Ok(applied)
}
