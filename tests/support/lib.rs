//! Shared parts of the test rungs: topology, peers, packet builders, the oracle.

pub mod addresses;
pub mod kube_proxy;
pub mod netns;
pub mod topology;
pub mod wait;
