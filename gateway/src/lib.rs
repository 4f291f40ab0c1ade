//! Sluice gateway: the loader that runs in the gateway pod.

pub mod config;

#[cfg(feature = "loader")]
pub mod admin;
#[cfg(feature = "loader")]
pub mod status;
