//! The objects that a Service has: brought in line, and nobody else's touched.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Service;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Failure;
use super::packed::Packed;
use super::writer::{WriteError, Writer};
use crate::desired::{self, without_others};

/// What became of a child.
#[derive(Debug)]
pub enum Child<K> {
    /// It was as wanted.
    InOrder,
    /// It was made, or brought in line. What it was before.
    Written(Option<Box<K>>),
    /// It is being deleted; a new one can be made once it is gone.
    Dying,
    /// Somebody else's object has its name.
    Foreign,
}

/// A kind that a Service can have.
pub trait ChildKind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> ChildKind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// The live object `name` of the namespace of `service`: from the cache, or, if that does not have it, from the API server. The
/// cache knows only what has our label, and may be older than our last write.
pub async fn live<K: ChildKind + 'static>(
    writer: &Writer,
    store: &Store<Packed<K>>,
    service: &Service,
    name: &str,
) -> Result<Option<K>, Failure> {
    if let Some(cached) = cached(store, service, name)? {
        return Ok(Some(cached));
    }
    Ok(api(writer, service).get_opt(name).await?)
}

/// Brings `wanted` in line. Before a write the API server is asked: a cache that does not show our last write yet must not cause
/// another.
pub async fn ensure<K: ChildKind + 'static>(
    writer: &Writer,
    store: &Store<Packed<K>>,
    service: &Service,
    wanted: &K,
) -> Result<Child<K>, Failure> {
    let name = wanted.name_any();
    let cached = cached(store, service, &name)?;
    if matches!(judge(wanted, cached.as_ref(), service), Some(Child::InOrder)) {
        return Ok(Child::InOrder);
    }
    let api = api(writer, service);
    let live = api.get_opt(&name).await?;
    if let Some(child) = judge(wanted, live.as_ref(), service) {
        return Ok(child);
    }
    let applied = writer.apply(&api, &name, wanted, live.is_some()).await;
    if let (Err(WriteError::Invalid(_)), Some(live)) = (&applied, &live)
        && let Some(alone) = without_others(wanted, live)
    {
        // What others have set may not go together with what we want, and an apply removes nothing that is not ours.
        writer.merge_lists(&api, &name, &json!({ "spec": alone })).await?;
        writer.apply(&api, &name, wanted, true).await?;
    } else {
        applied?;
    }
    Ok(Child::Written(live.map(Box::new)))
}

/// The object `name` of the namespace of `service` as the cache has it.
fn cached<K: ChildKind + 'static>(
    store: &Store<Packed<K>>,
    service: &Service,
    name: &str,
) -> Result<Option<K>, Failure> {
    let namespace = service.namespace().unwrap_or_default();
    let Some(cached) = store.get(&ObjectRef::new(name).within(&namespace)) else { return Ok(None) };
    Ok(Some(cached.unpack().map_err(kube::Error::SerdeError)?))
}

/// What `live` is without a write; `None`: it has to be written.
fn judge<K: ChildKind>(wanted: &K, live: Option<&K>, service: &Service) -> Option<Child<K>> {
    match live? {
        live if !desired::is_ours(live.meta(), service) => Some(Child::Foreign),
        live if live.meta().deletion_timestamp.is_some() => Some(Child::Dying),
        live if desired::in_order(wanted, live) => Some(Child::InOrder),
        _ => None,
    }
}

/// The children's API in the namespace of `service`.
pub fn api<K: ChildKind>(writer: &Writer, service: &Service) -> Api<K> {
    Api::namespaced(writer.client().clone(), &service.namespace().unwrap_or_default())
}
