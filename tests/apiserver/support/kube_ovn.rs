//! A played Kube-OVN.

use kube::Client;

/// Which release it behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v1.16.2: every pod of a network gets an address of its Subnet.
    V1_16,
    /// The master branch of 2026-08: only where the network says `ipam.type: kube-ovn`.
    Master,
}

/// The controller of Kube-OVN. It ends when this value is dropped.
#[derive(Debug)]
pub struct KubeOvn {}

impl KubeOvn {
    /// x
    pub async fn start(_client: Client, _namespace: &str, _version: Version, _subnets: Vec<String>) -> Self {
        Self {}
    }
}
