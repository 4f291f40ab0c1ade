//! The custom resources that the tests' API server knows.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use sluice_controller::api::{NetworkAttachmentDefinition, Vip};

use crate::{manifests, programs};

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
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in &all {
        let name = definition.name_any();
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        established.await.with_context(|| format!("waiting for {name}"))?;
    }
    Ok(())
}
