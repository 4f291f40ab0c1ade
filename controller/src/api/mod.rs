//! The Kubernetes contract: the objects that are read, as far as they are read, and the annotation keys.
//!
//! Services and their children are k8s-openapi's own types. The definitions of the custom resources that Sluice ships are generated from the types here.

pub mod annotation;
mod nad;
mod provider;
mod reservation;
mod subnet;
mod vip;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use nad::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, NetworkConfig};
pub use provider::Provider;
pub use reservation::{Holder, IPReservation, IPReservationSpec};
pub use subnet::{Subnet, SubnetSpec, SubnetStatus};
pub use vip::{Vip, VipSpec, VipStatus};

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
