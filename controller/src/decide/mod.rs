//! What the state of a cluster means. Pure.

mod lb_svc;
mod pod_trouble;
mod publication;

pub use lb_svc::lb_svc_enabled;
pub use pod_trouble::pod_trouble;
pub use publication::{GatewayPod, Observed, Publication, carried, ingress, publication, served_before};
