//! `sluice-gateway`, the loader that runs in the gateway pod.
fn main() {}
