//! Annotation keys and the load balancer class: what Services of the original carry, kept as it is, and Sluice's own.

use k8s_openapi::api::core::v1::Service;

use super::Provider;

/// On a Service: `<nad>.<namespace>` of the network that gives the VIP. Its presence makes the Service ours.
pub const ATTACHMENT_PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";

/// `spec.loadBalancerClass` of Sluice, for clusters with several load balancers; a Service without a class is ours, too.
pub const LOAD_BALANCER_CLASS: &str = "sluice.io/lb-svc";

/// On a Service, and from there on its pod: the Subnet of the pod's cluster side, for Services of a custom VPC.
pub const CLUSTER_LOGICAL_SWITCH: &str = "ovn.kubernetes.io/logical_switch";

/// On a pod: the networks that Multus gives it, `<namespace>/<nad>`.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// On a Service: labels of the nodes that its gateway may run on.
pub const NODE_SELECTOR: &str = "sluice.io/node-selector";

/// On a Service: tolerations of its gateway pod.
pub const TOLERATIONS: &str = "sluice.io/tolerations";

/// On a Service: resources of its gateway pod.
pub const RESOURCES: &str = "sluice.io/resources";

/// On a Service: connections that its gateway can track, for each address family.
pub const MAX_FLOWS: &str = "sluice.io/max-flows";

/// On a Service: the networks of its clients with commas, from before there was `spec.loadBalancerSourceRanges`.
pub const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// What the annotations of Sluice's own begin with.
pub const PREFIX: &str = "sluice.io/";

/// Sluice's own annotations of Services.
pub const OF_SERVICES: [&str; 4] = [NODE_SELECTOR, TOLERATIONS, RESOURCES, MAX_FLOWS];

/// On Deployment and ConfigMap: hash of what was applied.
pub const APPLIED: &str = "sluice.io/applied";

/// On a Deployment: hash of the pod template that was applied.
pub const APPLIED_TEMPLATE: &str = "sluice.io/applied-template";

/// On a pod: hash of its network's configuration.
pub const NETWORK_HASH: &str = "sluice.io/network-hash";

/// On a live pod: hash of the gateway's file.
pub const CONFIG_HASH: &str = "sluice.io/config-hash";

/// On a Vip: `<namespace>/<name>` of its Service.
pub const SERVICE: &str = "sluice.io/service";

/// On a pod, and as a label of a Vip: UID of its Service.
pub const SERVICE_UID: &str = "sluice.io/service-uid";

/// On a Service: `<provider>.kubernetes.io/logical_switch`, the Subnet that gives the VIP.
pub fn logical_switch(provider: &Provider) -> String {
    of_provider(provider, "logical_switch")
}

/// `<provider>.kubernetes.io/<name>`.
pub fn of_provider(provider: &Provider, name: &str) -> String {
    format!("{provider}.kubernetes.io/{name}")
}

/// The value of the annotation `key`, trimmed; `None` where it is absent.
pub fn get<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    service.metadata.annotations.as_ref()?.get(key).map(|value| value.trim())
}
