//! The custom resources that the tests' API server knows.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use sluice_controller::api::{NetworkAttachmentDefinition, Vip};

use crate::{manifests, programs, wait};

/// Defines Sluice's own as `sluice-controller crds` prints them, and Multus' and Kube-OVN's as far as Sluice knows them. Waits until the
/// server serves them.
///
/// # Errors
/// The server refuses one.
pub async fn install(client: &Client) -> Result<()> {
    let mut all = manifests::apply(client, &programs::printed_by_controller(&["crds"])?).await?;
    for theirs in [NetworkAttachmentDefinition::crd(), Vip::crd()] {
        let yaml = serde_saphyr::to_string(&theirs).context("writing a definition")?;
        all.extend(manifests::apply(client, &yaml).await?);
    }
    for definition in all {
        let name = definition.name_any();
        serves(client, &definition).await.with_context(|| format!("waiting for {name}"))?;
    }
    Ok(())
}

/// Waits until objects of the kind can be asked for.
async fn serves(client: &Client, definition: &DynamicObject) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    await_condition(api.clone(), &name, conditions::is_crd_established()).await?;
    let spec = api.get(&name).await?.spec;
    let version = spec.versions.first().context("a definition without versions")?;
    let kind = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
    let objects: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::from_gvk_with_plural(&kind, &spec.names.plural));
    // For a moment after that, the server still answers that its storage is initializing.
    wait::eventually(&format!("{name} are served"), async || {
        objects.list(&ListParams::default()).await.ok().map(drop)
    })
    .await;
    Ok(())
}
