//! Kube-OVN's Subnet, as far as a gateway needs it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// `kubeovn.io/v1` Subnet: a pool of addresses. Cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// Name.
    pub metadata: ObjectMeta,
    /// The pool.
    pub spec: SubnetSpec,
}

/// The pool. `protocol` is not read: `cidrBlock` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetSpec {
    /// The network, as `<nad>.<namespace>`.
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
}
