//! The Kubernetes contract: the objects that are read, as far as they are read, and the annotation keys.
//!
//! Services are k8s-openapi's own. The types here have the fields `metadata` and `spec` as those that kube derives.

pub mod annotation;
mod nad;
mod provider;
mod subnet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use nad::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, NetworkConfig};
pub use provider::Provider;
pub use subnet::{Subnet, SubnetSpec};

/// `Service <namespace>/<name>`, as refusals call it.
pub fn describe_service(service: &Service) -> String {
    format!("Service {}", namespaced_name(&service.metadata))
}

/// `<namespace>/<name>`; without a namespace it is `default`, where `kubectl apply` puts it.
pub fn namespaced_name(metadata: &ObjectMeta) -> String {
    format!("{}/{}", namespace(metadata), metadata.name.as_deref().unwrap_or_default())
}

/// The namespace of an object; `default` where it names none.
pub fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}
