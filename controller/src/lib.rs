//! Sluice's controller: from a Kubernetes Service to a gateway. What is here is pure; the shell around it is the binary's.
//!
//! ```text
//! select   is the Service ours, which network and Subnet does it mean
//! families which address families do Service and Subnet share
//! ipam     which address does it get
//! gateway_file   what does its gateway read
//! render   the four in a row
//! desired  which objects should it have
//! decide   what do pods and status mean: publish or withdraw, what keeps a pod from running
//! ```

pub mod admin;
pub mod api;
pub mod cli;
pub mod crds;
pub mod decide;
pub mod desired;
pub mod events;
pub mod families;
pub mod gateway_file;
pub mod ipam;
pub mod lease;
pub mod operator;
pub mod policy;
pub mod rbac;
mod refusal;
pub mod render;
pub mod select;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
