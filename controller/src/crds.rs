//! The definitions of the custom resources, from the types that read them, and what the API server can refuse by itself.
//!
//! The chart in `deploy/` has copies, which a test of the rung `apiserver` compares and writes anew.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt as _;
use serde::Serialize;

use crate::api::{IPReservation, Subnet};

/// Formats of strings that an API server knows; of any other it warns.
const KNOWN_FORMATS: [&str; 4] = ["date-time", "int32", "int64", "double"];

/// Sluice's own: reserved addresses.
pub fn ip_reservation() -> CustomResourceDefinition {
    let mut definition = IPReservation::crd();
    each_schema(&mut definition, &mut plain);
    definition
}

/// The part of Kube-OVN's Subnet that Sluice reads, for clusters where Kube-OVN is not. Other fields are kept as they come.
pub fn subnet() -> CustomResourceDefinition {
    let mut definition = Subnet::crd();
    each_schema(&mut definition, &mut plain);
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let parts = schema.and_then(|schema| schema.properties.as_mut());
        for part in parts.into_iter().flat_map(|parts| parts.values_mut()) {
            part.x_kubernetes_preserve_unknown_fields = Some(true);
        }
    }
    definition
}

/// `objects` as one stream of YAML documents.
///
/// # Errors
/// An object that cannot be written as YAML.
pub fn to_yaml<T: Serialize>(objects: &[T]) -> Result<String, serde_saphyr::ser::Error> {
    objects
        .iter()
        .map(|object| Ok(format!("---\n{}", serde_saphyr::to_string(object)?.trim_start())))
        .collect()
}

/// The API server would write a default into objects: what nobody wrote is absent.
fn plain(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.format.take_if(|format| !KNOWN_FORMATS.contains(&format.as_str()));
}

fn each_schema(definition: &mut CustomResourceDefinition, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    let versions = definition.spec.versions.iter_mut();
    let schemas = versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    schemas.for_each(|schema| each_part(schema, change));
}

fn each_part(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for part in schema.properties.iter_mut().flat_map(|parts| parts.values_mut()) {
        each_part(part, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => each_part(items, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            items.iter_mut().for_each(|item| each_part(item, change))
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Every value of `key` in `value`, at any depth, but not among names of fields.
    fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
        if let Value::Object(object) = value {
            found.extend(object.get(key));
            let parts = object.get("properties").and_then(Value::as_object);
            parts.into_iter().flat_map(|parts| parts.values()).for_each(|part| all(part, key, found));
            object.get("items").into_iter().for_each(|items| all(items, key, found));
        }
    }

    #[test]
    fn objects_are_stored_as_they_were_written() {
        for (definition, whole) in [(subnet(), false), (ip_reservation(), true)] {
            let definition = serde_json::to_value(definition).unwrap();
            let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
            let values = |key: &str| {
                let mut found = Vec::new();
                all(schema, key, &mut found);
                found.into_iter().cloned().collect::<Vec<_>>()
            };
            assert_eq!(values("default"), Vec::<Value>::new());
            let unknown = values("x-kubernetes-preserve-unknown-fields");
            assert_eq!(unknown, if whole { vec![] } else { vec![json!(true), json!(true)] });
        }
        let status = serde_json::to_value(subnet()).unwrap();
        assert_eq!(status.pointer("/spec/versions/0/subresources/status"), Some(&json!({})));
    }
}
