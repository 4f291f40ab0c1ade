//! What a watched object means for Services.

use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::{ObjectRef, Store};

/// An object whose change concerns Services.
pub trait Changed {
    /// Whether a Subnet's status depends on it.
    const COUNTED: bool = false;

    /// A hash of what passes over Services read of the object, where much else of it changes, too.
    fn essence(&self) -> Option<u64> {
        None
    }

    /// The Services that have to be looked at, now that the object is as it is, or is gone.
    fn concerns(&self, services: &Store<Service>, gone: bool) -> Vec<ObjectRef<Service>>;
}
