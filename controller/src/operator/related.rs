//! Which Services a change of another object concerns, and what is kept of each object.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};

use super::changed::Changed;
use super::packed::Packed;
use super::{FINALIZER, essence};
use crate::api::{IPReservation, NetworkAttachmentDefinition, Provider, Subnet, annotation};

/// Whether a Service may be ours, or was: the others are not looked at. What each one really is, [`crate::select`] says.
pub fn is_relevant(service: &Service) -> bool {
    annotation::get(service, annotation::ATTACHMENT_PROVIDER).is_some()
        || service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref())
            == Some(annotation::LOAD_BALANCER_CLASS)
        || service.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The Services that may be ours.
pub fn relevant(services: &Store<Service>) -> impl Iterator<Item = Arc<Service>> {
    services.state().into_iter().filter(|service| is_relevant(service))
}

/// Keeps of a foreign Service its name only.
pub fn strip_service(service: &mut Service) {
    service.metadata.managed_fields = None;
    if is_relevant(service) {
        if let Some(annotations) = &mut service.metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        return;
    }
    let metadata = std::mem::take(&mut service.metadata);
    *service = Service::default();
    service.metadata.name = metadata.name;
    service.metadata.namespace = metadata.namespace;
    service.metadata.resource_version = metadata.resource_version;
}

/// Keeps of a pod what says whose it is and how it fares.
pub fn strip_pod(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = pod.spec.take() {
        pod.spec =
            Some(k8s_openapi::api::core::v1::PodSpec { node_name: spec.node_name, ..Default::default() });
    }
}

impl Changed for Service {
    fn concerns(&self, _services: &Store<Service>, gone: bool) -> Vec<ObjectRef<Service>> {
        if !gone && is_relevant(self) { vec![ObjectRef::from_obj(self)] } else { Vec::new() }
    }
}

/// A child.
impl<K: Resource> Changed for Packed<K> {
    fn concerns(&self, _services: &Store<Service>, _gone: bool) -> Vec<ObjectRef<Service>> {
        owner(self.meta())
    }
}

impl Changed for Pod {
    /// A Service's name is a label's value as it is: neither is longer than 63 characters.
    fn concerns(&self, _services: &Store<Service>, _gone: bool) -> Vec<ObjectRef<Service>> {
        let service = self.labels().get("service");
        service.map(|service| named(service, self.namespace().as_deref())).into_iter().collect()
    }
}

impl Changed for NetworkAttachmentDefinition {
    fn concerns(&self, services: &Store<Service>, _gone: bool) -> Vec<ObjectRef<Service>> {
        let provider = format!("{}.{}", self.name_any(), self.namespace().unwrap_or_default());
        of_provider(services, &provider, |_| true)
    }
}

impl Changed for Subnet {
    const COUNTED: bool = true;

    /// Its status changes with each address that is given.
    fn essence(&self) -> Option<u64> {
        essence::as_users_set(self)
    }

    fn concerns(&self, services: &Store<Service>, _gone: bool) -> Vec<ObjectRef<Service>> {
        let mut concerned = of_provider(services, &self.spec.provider, |_| true);
        // One that changed its provider concerns those that name it, too.
        concerned.extend(
            relevant(services)
                .filter(|service| names_subnet(service, self.name()))
                .map(|service| ObjectRef::from_obj(&*service)),
        );
        concerned
    }
}

impl Changed for IPReservation {
    const COUNTED: bool = true;

    fn concerns(&self, services: &Store<Service>, gone: bool) -> Vec<ObjectRef<Service>> {
        let holder = &self.spec.service;
        let mut concerned = vec![named(&holder.name, Some(&holder.namespace))];
        if gone {
            // Somebody may be waiting for an address.
            concerned.extend(of_provider(services, &self.spec.provider, |service| !is_published(service)));
        }
        concerned
    }
}

fn owner(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Vec<ObjectRef<Service>> {
    let owners = metadata.owner_references.iter().flatten();
    owners
        .filter(|owner| owner.kind == "Service")
        .map(|owner| named(&owner.name, metadata.namespace.as_deref()))
        .collect()
}

fn named(name: &str, namespace: Option<&str>) -> ObjectRef<Service> {
    ObjectRef::new(name).within(namespace.unwrap_or_default())
}

fn of_provider(
    services: &Store<Service>,
    provider: &str,
    also: impl Fn(&Service) -> bool,
) -> Vec<ObjectRef<Service>> {
    relevant(services)
        .filter(|service| annotation::get(service, annotation::ATTACHMENT_PROVIDER) == Some(provider))
        .filter(|service| also(service))
        .map(|service| ObjectRef::from_obj(&*service))
        .collect()
}

fn names_subnet(service: &Service, subnet: &str) -> bool {
    let provider = annotation::get(service, annotation::ATTACHMENT_PROVIDER);
    provider.and_then(|provider| provider.parse::<Provider>().ok()).is_some_and(|provider| {
        annotation::get(service, &annotation::logical_switch(&provider)) == Some(subnet)
    })
}

/// Whether the Service's status shows an address.
pub fn is_published(service: &Service) -> bool {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}
