//! `sluice-controller`.
fn main() {}
