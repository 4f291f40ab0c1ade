//! Sluice gateway: the loader that runs in the gateway pod.

#[cfg(feature = "loader")]
pub mod admin;
#[cfg(feature = "loader")]
pub mod bpf;
#[cfg(feature = "loader")]
pub mod cli;
pub mod config;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "loader")]
pub mod lb_svc;
#[cfg(feature = "log")]
pub mod log;
#[cfg(feature = "loader")]
pub mod net;
pub mod problem;
#[cfg(feature = "loader")]
pub mod run;
#[cfg(feature = "loader")]
pub mod status;
#[cfg(feature = "loader")]
pub mod tables;
