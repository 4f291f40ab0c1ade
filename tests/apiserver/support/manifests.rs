//! Manifests, applied as they are.

use anyhow::{Context, Result};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
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
    for object in read(yaml)? {
        let what = || format!("applying {}", describe(&object));
        let api = api(client, &object).await.with_context(what)?;
        let params = PatchParams::apply("kubectl").force();
        applied
            .push(api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.with_context(what)?);
    }
    Ok(applied)
}

/// Like `kubectl delete --ignore-not-found`.
///
/// # Errors
/// The text is no manifest, or the server refuses.
pub async fn delete(client: &Client, yaml: &str) -> Result<()> {
    for object in read(yaml)? {
        let what = || format!("deleting {}", describe(&object));
        let api = api(client, &object).await.with_context(what)?;
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => drop(result.with_context(what)?),
        }
    }
    Ok(())
}

/// The objects of a manifest; documents of comments alone are none.
fn read(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents = serde_saphyr::from_multiple::<Value>(yaml).context("reading YAML")?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects.map(|object| serde_json::from_value(object).context("a manifest")).collect()
}

fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map(|types| types.kind.as_str());
    format!("{} {}", kind.unwrap_or("an object without a kind"), object.name_any())
}

/// The API that `object` belongs to.
async fn api(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("a manifest without a kind")?;
    let (resource, capabilities) = pinned_kind(client, &GroupVersionKind::try_from(types)?).await?;
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    })
}
