//! Children as the caches keep them. A Deployment of 3 KiB on the wire takes 21 KiB as a Rust value: a volume alone has 3 KiB of fields, of
//! which one is used. Few Services are looked at at a time, so the rest is kept as text.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

/// An object of kind `K`: its metadata, without what nobody here reads, and everything else as JSON.
#[derive(Clone, Debug)]
pub struct Packed<K> {
    metadata: ObjectMeta,
    rest: Box<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource + Serialize + DeserializeOwned> Packed<K> {
    /// # Errors
    /// `object` cannot be written as JSON.
    fn new(mut object: K) -> serde_json::Result<Self> {
        let mut metadata = std::mem::take(object.meta_mut());
        metadata.managed_fields = None;
        Ok(Self { metadata, rest: serde_json::to_string(&object)?.into(), kind: PhantomData })
    }

    /// The object.
    ///
    /// # Errors
    /// None is known: it is read from what it was written to.
    pub fn unpack(&self) -> serde_json::Result<K> {
        let mut object: K = serde_json::from_str(&self.rest)?;
        *object.meta_mut() = self.metadata.clone();
        Ok(object)
    }
}

impl<'de, K: Resource + Serialize + DeserializeOwned> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(K::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Packed<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_but_the_managers_of_fields_comes_back() {
        let mut stored = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "lb-svc-web", "namespace": "shop", "uid": "1", "resourceVersion": "7", "labels": {"service": "web"},
                "managedFields": [{"manager": "sluice-controller", "operation": "Apply"}],
            },
            "data": {"gateway.yaml": "version: 1\n"}, "immutable": true,
        });
        let packed: Packed<ConfigMap> = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(packed.meta().name.as_deref(), Some("lb-svc-web"));
        stored["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(serde_json::to_value(packed.unpack().unwrap()).unwrap(), stored);
    }

    #[test]
    fn an_object_of_another_shape_is_refused() {
        let error =
            serde_json::from_value::<Packed<ConfigMap>>(json!({"metadata": {}, "data": 1})).unwrap_err();
        assert!(error.to_string().contains("invalid type"), "{error}");
    }
}
