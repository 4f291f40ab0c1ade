//! The drop-in for the gateway pods that Kube-OVN makes itself (`--enable-lb-svc=true`): its controller tells them what to
//! serve by running a script in the pod, one operation at a time. See `docs/kube-ovn-drop-in.md`.
//!
//! ```text
//! arguments -> Operation -> edit of the State -> gateway file, which `run` serves
//!              (pure)       (pure, under a lock)
//! ```

mod operation;
mod place;
mod serve;
mod served;
mod state;
mod store;
#[cfg(test)]
mod tests;

pub use operation::{Fault, Operation};
pub use place::Place;
pub use serve::serve;
pub use store::perform;
