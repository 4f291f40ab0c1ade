//! Every write to the API server.

use std::fmt::Debug;
use std::future::Future;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::Metrics;
use crate::lease::Gate;

/// Names us in `managedFields`.
pub const FIELD_MANAGER: &str = "sluice-controller";

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The lease is not held any more. Another controller may be writing.
    #[error("not written: this controller no longer leads")]
    NotLeading,
    /// An object of this name exists, or a field of it belongs to another manager.
    #[error("{0}")]
    Conflict(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The API server refuses the object as it is; to repeat it does not help.
    #[error("{0}")]
    Invalid(String),
    /// Everything else, such as an API server that does not answer.
    #[error(transparent)]
    Api(kube::Error),
}

impl WriteError {
    /// As the metrics call it.
    const fn name(&self) -> &'static str {
        match self {
            Self::NotLeading => "not_leading",
            Self::Conflict(_) => "conflict",
            Self::NotFound(_) => "not_found",
            Self::Invalid(_) => "invalid",
            Self::Api(_) => "error",
        }
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict(status.message.clone()),
            kube::Error::Api(status) if status.code == 404 => Self::NotFound(status.message.clone()),
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                Self::Invalid(status.message.clone())
            }
            other => Self::Api(other),
        }
    }
}

/// Writes, while this process leads.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    gate: Gate,
    metrics: Metrics,
}

impl Writer {
    /// Writes by `client` while `gate` is open, and counts it in `metrics`.
    pub const fn new(client: Client, gate: Gate, metrics: Metrics) -> Self {
        Self { client, gate, metrics }
    }

    /// Says whether this process leads.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The client, for reads.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What is counted.
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether a write would be made.
    ///
    /// # Errors
    /// [`WriteError::NotLeading`].
    pub fn check(&self) -> Result<(), WriteError> {
        if self.gate.is_open() { Ok(()) } else { Err(WriteError::NotLeading) }
    }

    /// Creates `object`.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if one of its name exists.
    pub async fn create<K>(&self, api: &Api<K>, object: &K) -> Result<K, WriteError>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.write("create", resource(api), api.create(&params, object)).await
    }

    /// Applies `object` as a whole: it is created, or gets the given fields and loses those that were applied before and are
    /// not given now. Only with `force` are fields taken over that another manager has set.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if another manager has set a field otherwise.
    pub async fn apply<K>(&self, api: &Api<K>, name: &str, object: &K, force: bool) -> Result<K, WriteError>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let params = PatchParams { force, ..PatchParams::apply(FIELD_MANAGER) };
        self.write("patch", resource(api), api.patch(name, &params, &Patch::Apply(object))).await
    }

    /// Changes the fields that `patch` names (RFC 7396), and no other.
    ///
    /// # Errors
    /// [`WriteError::NotFound`] if there is no such object; [`WriteError::Conflict`] if `patch` has a `resourceVersion` or a
    /// `uid` and the object another.
    pub async fn merge<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> Result<K, WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        self.write("patch", resource(api), api.patch(name, &merging(), &Patch::Merge(patch))).await
    }

    /// The same as a strategic merge: items of lists that have a key are changed one by one.
    ///
    /// # Errors
    /// As of [`Self::merge`].
    pub async fn merge_lists<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> Result<K, WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        self.write("patch", resource(api), api.patch(name, &merging(), &Patch::Strategic(patch))).await
    }

    /// As [`Self::merge`], for the status of the object.
    ///
    /// # Errors
    /// As of [`Self::merge`].
    pub async fn merge_status<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> Result<K, WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let status = format!("{}/status", resource(api));
        self.write("patch", &status, api.patch_status(name, &merging(), &Patch::Merge(patch))).await
    }

    /// Deletes the object `name`, if it is still the one with `uid`; what depends on it goes first. That it is gone already is
    /// no error. Returning does not mean that it is gone: finalizers may hold it.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if it is another object.
    pub async fn delete<K>(&self, api: &Api<K>, name: &str, uid: &str) -> Result<(), WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        self.delete_by(api, name, uid, PropagationPolicy::Foreground).await
    }

    /// The same for an object that nothing depends on: its name is free as soon as this returns, without the garbage collector.
    ///
    /// # Errors
    /// As of [`Self::delete`].
    pub async fn delete_at_once<K>(&self, api: &Api<K>, name: &str, uid: &str) -> Result<(), WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        self.delete_by(api, name, uid, PropagationPolicy::Background).await
    }

    async fn delete_by<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        policy: PropagationPolicy,
    ) -> Result<(), WriteError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        match self.write("delete", resource(api), api.delete(name, &params)).await {
            Ok(_) | Err(WriteError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the write `call` to `resource`, as RBAC calls it, if that may be.
    async fn write<T>(
        &self,
        verb: &'static str,
        resource: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let result = match self.check() {
            Ok(()) => call.await.map_err(WriteError::from),
            Err(error) => Err(error),
        };
        self.metrics.wrote(verb, resource, result.as_ref().map_or_else(WriteError::name, |_| "ok"));
        result
    }
}

/// Name of the resource of `api`: its URL ends in it.
fn resource<K: Resource>(api: &Api<K>) -> &str {
    api.resource_url().rsplit('/').next().unwrap_or_default()
}

fn merging() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}
