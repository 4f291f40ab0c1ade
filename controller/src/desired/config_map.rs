//! The ConfigMap with the gateway's file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Inputs, metadata};
use crate::Refusal;
use crate::api::describe_service;

/// Key of the file: what `sluice-gateway run` reads by default, once the ConfigMap is mounted at [`super::pod::CONFIG_DIR`].
pub(super) const KEY: &str = "gateway.yaml";

/// The ConfigMap of the Service.
///
/// # Errors
/// The file cannot be written as text.
pub fn config_map(inputs: &Inputs<'_>) -> Result<ConfigMap, Refusal> {
    let mut map = ConfigMap {
        metadata: metadata::child(inputs.service),
        data: Some(BTreeMap::from([(KEY.to_owned(), text(inputs)?)])),
        ..ConfigMap::default()
    };
    metadata::mark_applied(inputs.service, &mut map)?;
    Ok(map)
}

/// The gateway's file as text.
pub(super) fn text(inputs: &Inputs<'_>) -> Result<String, Refusal> {
    inputs.file.to_yaml().map_err(|fault| {
        let fault = format!("the gateway's file cannot be written: {fault}");
        Refusal::new(&describe_service(inputs.service), "spec", fault, "report it")
    })
}
