//! The shell around the pure parts: caches, one pass per Service, writes.

pub mod addresses;
pub mod writer;
