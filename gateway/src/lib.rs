//! Sluice gateway: the loader that runs in the gateway pod.

#[cfg(feature = "loader")]
pub mod admin;
#[cfg(feature = "loader")]
pub mod bpf;
#[cfg(feature = "loader")]
pub mod cli;
pub mod config;
#[cfg(feature = "log")]
pub mod log;
#[cfg(feature = "loader")]
pub mod net;
#[cfg(feature = "loader")]
pub mod run;
#[cfg(feature = "loader")]
pub mod status;
#[cfg(feature = "loader")]
pub mod tables;
