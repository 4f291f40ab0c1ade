//! Sluice gateway: the loader that runs in the gateway pod.

pub mod config;
