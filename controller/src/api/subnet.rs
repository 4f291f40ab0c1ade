//! Kube-OVN's Subnet, as far as a gateway needs it.

use kube::{CustomResource, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The finalizer that Kube-OVN's controller gives the Subnets that it manages.
const KUBE_OVN_FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// A pool of addresses of one network.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Subnet",
    plural = "subnets",
    shortname = "subnet",
    status = "SubnetStatus",
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Provider","type":"string","jsonPath":".spec.provider"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.protocol"}"#,
    printcolumn = r#"{"name":"CIDR","type":"string","jsonPath":".spec.cidrBlock"}"#,
    printcolumn = r#"{"name":"V4Used","type":"number","jsonPath":".status.v4usingIPs"}"#,
    printcolumn = r#"{"name":"V4Available","type":"number","jsonPath":".status.v4availableIPs"}"#,
    printcolumn = r#"{"name":"V6Used","type":"number","jsonPath":".status.v6usingIPs"}"#,
    printcolumn = r#"{"name":"V6Available","type":"number","jsonPath":".status.v6availableIPs"}"#,
    printcolumn = r#"{"name":"ExcludeIPs","type":"string","jsonPath":".spec.excludeIps"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SubnetSpec {
    /// `IPv4`, `IPv6` or `Dual`. For people: `cidrBlock` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The network, as `<nad>.<namespace>` of a NetworkAttachmentDefinition.
    #[serde(default)]
    pub provider: String,
    /// `<IPv4 prefix>`, `<IPv6 prefix>` or both with a comma.
    #[serde(default)]
    pub cidr_block: String,
    /// The routers, one for each prefix, in the same form; empty: none.
    #[serde(default)]
    pub gateway: String,
    /// Addresses, or ranges as `a..b`, that are not given dynamically.
    #[serde(default)]
    pub exclude_ips: Vec<String>,
}

/// How much of the pool is in use. Field names and forms are Kube-OVN's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubnetStatus {
    /// IPv4 addresses that can still be given dynamically.
    #[serde(rename = "v4availableIPs", default)]
    pub v4_available_ips: f64,
    /// The same as ranges: `a-b,c`.
    #[serde(rename = "v4availableIPrange", default)]
    pub v4_available_ip_range: String,
    /// IPv4 addresses that are in use.
    #[serde(rename = "v4usingIPs", default)]
    pub v4_using_ips: f64,
    /// The same as ranges.
    #[serde(rename = "v4usingIPrange", default)]
    pub v4_using_ip_range: String,
    /// IPv6 addresses that can still be given dynamically.
    #[serde(rename = "v6availableIPs", default)]
    pub v6_available_ips: f64,
    /// The same as ranges.
    #[serde(rename = "v6availableIPrange", default)]
    pub v6_available_ip_range: String,
    /// IPv6 addresses that are in use.
    #[serde(rename = "v6usingIPs", default)]
    pub v6_using_ips: f64,
    /// The same as ranges.
    #[serde(rename = "v6usingIPrange", default)]
    pub v6_using_ip_range: String,
}

impl Subnet {
    /// API version and kind in manifests.
    pub const API: (&str, &str) = ("kubeovn.io/v1", "Subnet");

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// `Subnet <name>`, as refusals call it.
    pub fn describe(&self) -> String {
        format!("Subnet {}", self.name())
    }

    /// Whether a running Kube-OVN allocates its addresses.
    pub fn is_kube_ovns(&self) -> bool {
        self.finalizers().iter().any(|finalizer| finalizer == KUBE_OVN_FINALIZER)
    }
}
