//! What a flow costs of the kernel's memory, which is charged to the gateway's pod.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{EbpfLoader, maps::Map};
use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::DEFAULT_MAX_FLOWS,
};

use crate::rig::Net;

/// Bytes of both entries of a flow, everything that the kernel adds included, as it accounts for the maps (`memlock` in
/// fdinfo, which is what `bpftool map show` prints). Before Linux 6.4 that is an estimate, of keys and values alone.
fn bytes_per_flow<F: Net>() -> u64 {
    let names = ["flows", "replies"].map(|stem| format!("{stem}_{}", F::SUFFIX));
    let mut loader = EbpfLoader::new();
    for name in &names {
        loader.map_max_entries(name, DEFAULT_MAX_FLOWS);
    }
    let loaded = loader.load(F::object()).unwrap();
    let memory = names.iter().map(|name| {
        let Some(Map::HashMap(map)) = loaded.map(name) else { panic!("{name} is no hash map") };
        let fd = map.fd().as_fd().as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{fd}")).unwrap();
        let memlock = info.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
        memlock.trim().parse::<u64>().unwrap()
    });
    memory.sum::<u64>().div_ceil(DEFAULT_MAX_FLOWS.into())
}

#[test]
fn an_ipv4_flow_takes_at_most_200_bytes() {
    let bytes = bytes_per_flow::<V4>();
    println!("an IPv4 flow takes {bytes} bytes");
    // Two keys and two values are 64 bytes: less would mean that something else was measured.
    assert!((64..=200).contains(&bytes), "{bytes} bytes");
}

#[test]
fn an_ipv6_flow_takes_at_most_300_bytes() {
    let bytes = bytes_per_flow::<V6>();
    println!("an IPv6 flow takes {bytes} bytes");
    // Two keys of 40 bytes, values of 16 and 32.
    assert!((128..=300).contains(&bytes), "{bytes} bytes");
}
