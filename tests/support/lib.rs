//! Shared parts of the test rungs: topology, peers, packet builders, the oracle.

pub mod addresses;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod fuzz_corpus;
pub mod gateway;
pub mod kube_proxy;
pub mod netns;
pub mod objects;
pub mod packet;
pub mod peers;
pub mod record;
pub mod script;
pub mod topology;
pub mod wait;
