//! What the state of a cluster means. Pure.

mod pod_trouble;
mod publication;

pub use pod_trouble::pod_trouble;
pub use publication::{GatewayPod, Observed, Publication, carried, ingress, publication};
