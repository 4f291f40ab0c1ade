//! The custom resources that the tests' API server knows.

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, CustomResourceExt as _, ResourceExt as _};
use sluice_controller::api::{IPReservation, NetworkAttachmentDefinition, Subnet, Vip};

/// Defines them, and waits until the server serves them.
///
/// # Errors
/// The server refuses one.
pub async fn install(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definitions = [NetworkAttachmentDefinition::crd(), Subnet::crd(), IPReservation::crd(), Vip::crd()];
    for definition in &definitions {
        let name = definition.name_any();
        api.create(&PostParams::default(), definition).await.with_context(|| format!("defining {name}"))?;
    }
    for definition in &definitions {
        let name = definition.name_any();
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        established.await.with_context(|| format!("waiting for {name}"))?;
    }
    Ok(())
}
