//! The netns rung: real traffic, a real kernel, network namespaces of the test's own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod checksums;
mod daemon;
mod demo;
mod edits;
mod errors;
mod expiry;
mod flood;
mod handover;
mod lb_svc;
mod leftovers;
mod load;
mod loader;
mod oracle;
mod outside;
mod pods;
mod ports;
mod race;
mod ranges;
mod reconcile;
mod restart;
mod tables;
mod xdp;
