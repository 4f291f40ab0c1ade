//! Sluice's data path.
//!
//! This library is the pure core: map types, header parsing, checksums and the decisions of NAT and connection
//! tracking, over bytes and plain structs. It is `no_std`, knows nothing of kernel contexts and is tested on the host.
//! The tc programs made of it live in [`programs`] and exist only for `target_arch = "bpf"`.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "compare-and-swap on a map value has no stable form")
)]

pub mod address;
pub mod checksum;
pub mod conntrack;
pub mod family;
pub mod maps;
pub mod packet;
pub mod ports;
#[cfg(target_arch = "bpf")]
pub mod programs;
pub mod protocol;
pub mod verdict;
