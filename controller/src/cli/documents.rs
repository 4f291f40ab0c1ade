//! Manifests: multi-document YAML (or JSON) sorted by kind.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Service;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{NetworkAttachmentDefinition, Subnet};

/// The objects that a gateway is rendered from.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub services: Vec<Service>,
    pub attachments: Vec<NetworkAttachmentDefinition>,
    pub subnets: Vec<Subnet>,
}

impl Documents {
    /// Adds the objects in `text`, which comes from `file`; other kinds are passed over.
    pub(super) fn add(&mut self, file: &str, text: &str) -> anyhow::Result<()> {
        let options = serde_saphyr::options! { with_snippet: false };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .with_context(|| format!("cannot read {file} as YAML"))?;
        for (index, document) in documents.into_iter().enumerate() {
            self.add_document(document).with_context(|| format!("{file}: document {}", index + 1))?;
        }
        Ok(())
    }

    fn add_document(&mut self, document: Value) -> anyhow::Result<()> {
        let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            (_, "") | ("", _) => bail!("not a Kubernetes object: give it `apiVersion` and `kind`"),
            ("v1", "Service") => self.services.push(read(document)?),
            NetworkAttachmentDefinition::API => self.attachments.push(read(document)?),
            Subnet::API => self.subnets.push(read(document)?),
            // What `kubectl get -o yaml` prints of several objects.
            ("v1", "List") => {
                let Some(Value::Array(items)) = document.get("items").cloned() else { return Ok(()) };
                for (index, item) in items.into_iter().enumerate() {
                    self.add_document(item).with_context(|| format!("items[{index}]"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The object in `document`; a fault names the object and the field.
fn read<T: DeserializeOwned>(document: Value) -> anyhow::Result<T> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("without a name").to_owned();
    let object = format!("{} {}", text(document.get("kind")), text(document.pointer("/metadata/name")));
    let object_fault = |fault: serde_path_to_error::Error<serde_json::Error>| {
        let field = fault.path().to_string();
        anyhow::Error::new(fault.into_inner()).context(field).context(object)
    };
    serde_path_to_error::deserialize(document).map_err(object_fault)
}
