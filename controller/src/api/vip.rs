//! Kube-OVN's Vip: an address that Kube-OVN reserves without a pod.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks Kube-OVN for an address of a Subnet. Cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Vip",
    plural = "vips",
    status = "VipStatus",
    derive = "PartialEq"
)]
pub struct VipSpec {
    /// The Subnet.
    pub subnet: String,
    /// The IPv4 address that is asked for; absent: any.
    #[serde(rename = "v4ip", default, skip_serializing_if = "Option::is_none")]
    pub v4ip: Option<String>,
    /// The IPv6 address that is asked for; absent: any.
    #[serde(rename = "v6ip", default, skip_serializing_if = "Option::is_none")]
    pub v6ip: Option<String>,
}

/// Kube-OVN's answer; without an address there is none yet, or it is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VipStatus {
    /// The IPv4 address.
    #[serde(rename = "v4ip", default)]
    pub v4ip: String,
    /// The IPv6 address.
    #[serde(rename = "v6ip", default)]
    pub v6ip: String,
}
