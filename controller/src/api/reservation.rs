//! Sluice's own record of an address that a Service holds.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::namespace;

/// An address of a network, held by a Service. Its name is the address, so that two Services cannot hold the same.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.io",
    version = "v1alpha1",
    kind = "IPReservation",
    plural = "ipreservations",
    shortname = "ipr",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.service.namespace"}"#,
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service.name"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct IPReservationSpec {
    /// The address.
    pub address: IpAddr,
    /// The network, as `<nad>.<namespace>`.
    pub provider: String,
    /// The Subnet that gave the address.
    pub subnet: String,
    /// The Service that holds it.
    pub service: Holder,
}

/// A Service, for as long as it lives: one of the same name made later is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Holder {
    /// The Service itself. One that the API server has not stored has no UID, and none here.
    pub fn of(service: &Service) -> Self {
        let metadata = &service.metadata;
        Self {
            namespace: namespace(metadata).to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }
}
