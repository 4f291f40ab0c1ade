//! What the state of a cluster means. Pure.

mod backend;
mod gateway_report;
mod kube_ovn_pod;
mod kube_ovn_vip;
mod lb_svc;
mod pod_trouble;
mod publication;

pub use backend::{Backend, Evidence, KubeOvnMode, backend};
pub use gateway_report::gateway_report;
pub use kube_ovn_pod::{carrier, gives_to_pods, remembered, unanswered_pod};
pub use kube_ovn_vip::{vip, vip_addresses, vip_holder};
pub use lb_svc::lb_svc_enabled;
pub use pod_trouble::pod_trouble;
pub use publication::{GatewayPod, Observed, Publication, carried, ingress, publication, served_before};
