//! What the tests of the controller stand on: real servers, the real controller, and the few parts that are played.
//!
//! ```text
//! world      what each test starts from: a namespace, a network, and the rest of these
//! servers    etcd, kube-apiserver and kube-controller-manager, one set for all tests or one of a test's own
//! controller `sluice-controller run`
//! proxy      between controller and API server: counts, cuts, answers in its place
//! containers of Sluice's own pods, run as processes
//! helm       installs the chart
//! kubelet    played: makes pods run
//! kube_ovn   played: gives addresses
//! load       many Services at once, and what they cost the API server
//! ```

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

pub mod containers;
pub mod controller;
mod folder;
pub mod helm;
pub mod kube_ovn;
pub mod kubelet;
pub mod load;
mod loopback;
mod manifests;
mod process;
pub mod programs;
pub mod proxy;
pub mod servers;
pub mod wait;
pub mod world;
