//! Annotation keys and the load balancer class: what Services of the original carry, kept as it is.

use k8s_openapi::api::core::v1::Service;

use super::Provider;

/// On a Service: `<nad>.<namespace>` of the network that gives the VIP. Its presence makes the Service ours.
pub const ATTACHMENT_PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";

/// `spec.loadBalancerClass` of Sluice, for clusters with several load balancers; a Service without a class is ours, too.
pub const LOAD_BALANCER_CLASS: &str = "sluice.io/lb-svc";

/// On a Service: `<provider>.kubernetes.io/logical_switch`, the Subnet that gives the VIP.
pub fn logical_switch(provider: &Provider) -> String {
    format!("{provider}.kubernetes.io/logical_switch")
}

/// The value of the annotation `key`, trimmed; `None` where it is absent.
pub fn get<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    service.metadata.annotations.as_ref()?.get(key).map(|value| value.trim())
}
