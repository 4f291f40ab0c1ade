//! The programs. None of them is ever part of a gateway.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the entry points are described next to them; their macro loses the comments"
)]
#![expect(non_upper_case_globals, reason = "the kernel knows a map by the name of its static")]

mod frame;
mod generator;
mod limit;
mod sink;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1, xdp_action},
    btf_maps::{Array, DevMap, HashMap, PerCpuArray},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use frame::Frame;
use sluice_bench_ebpf::{BUCKETS, Expected, MOST_FLOWS, Position, Tally, Traffic, WATCHED_PORTS};

#[btf_map]
pub static traffic: Array<Traffic, 1> = Array::new();
#[btf_map]
pub static position: Array<Position, 1> = Array::new();
#[btf_map]
pub static expected: Array<Expected, 1> = Array::new();
#[btf_map]
pub static tally: PerCpuArray<Tally, 1> = PerCpuArray::new();
/// Packets by latency.
#[btf_map]
pub static latencies: PerCpuArray<u64, { BUCKETS as usize }> = PerCpuArray::new();
/// The flow that was seen last with a source port, and its generation, by service port and source port.
#[btf_map]
pub static owners: Array<u32, { (WATCHED_PORTS as usize) << 16 }> = Array::new();
/// Index of the device that the bare redirects send to.
#[btf_map]
pub static egress: Array<u32, 1> = Array::new();
/// The same device, for XDP programs that send as a gateway does.
#[btf_map]
pub static egress_device: DevMap<1> = DevMap::new();
/// IPv4 address of the neighbour that is redirected to, network byte order.
#[btf_map]
pub static next_hop: Array<u32, 1> = Array::new();
/// Flows by addresses, ports and protocol, as large as a gateway's entries: see [`limit::look_up`].
#[btf_map]
pub static flow_table: HashMap<[u64; 2], [u64; 2], { MOST_FLOWS as usize }> = HashMap::new();
/// As many buckets as flows, so that half of the table stays empty: see [`limit::search`].
const FLOW_BUCKET_BITS: u32 = MOST_FLOWS.ilog2();
/// Flows in cache lines of two: see [`limit::search`].
#[btf_map]
pub static flow_buckets: Array<[u64; 8], { 1 << FLOW_BUCKET_BITS }> = Array::new();
/// A cache line for each flow: see [`limit::touch`].
#[btf_map]
pub static flow_lines: Array<[u64; 8], { MOST_FLOWS as usize }> = Array::new();

// Makes a packet: run with live frames.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    generator::generate(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

// Takes the benches' packets, and lets all others pass.
#[xdp]
pub fn sink_xdp(context: XdpContext) -> u32 {
    match sink::take(Frame::of_xdp(&context)) {
        Some(()) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_PASS,
    }
}

// The same, tc.
#[classifier]
pub fn sink_tc(context: TcContext) -> i32 {
    match sink::take(Frame::of_tc(&context)) {
        Some(()) => TC_ACT_SHOT,
        None => TC_ACT_UNSPEC,
    }
}

// A bare redirect, tc.
#[classifier]
pub fn redirect_tc(_: TcContext) -> i32 {
    match egress.get(0) {
        // SAFETY: the helper takes plain numbers.
        Some(device) => unsafe { bpf_redirect(*device, 0) as i32 },
        None => TC_ACT_SHOT,
    }
}

// A redirect to a neighbour, the next hop, whose address the kernel writes into the frame: IPv4, tc.
#[classifier]
pub fn neighbour_tc(_: TcContext) -> i32 {
    let (Some(device), Some(hop)) = (egress.get(0), next_hop.get(0)) else { return TC_ACT_SHOT };
    let mut to = bpf_redir_neigh {
        nh_family: AF_INET,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv4_nh: *hop },
    };
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: `to` is valid during the call, and of the size that is told.
    unsafe { bpf_redirect_neigh(*device, &raw mut to, size, 0) as i32 }
}

// A bare redirect to the other end of a veth, tc.
#[classifier]
pub fn peer_tc(_: TcContext) -> i32 {
    match egress.get(0) {
        // SAFETY: the helper takes plain numbers.
        Some(device) => unsafe { bpf_redirect_peer(*device, 0) as i32 },
        None => TC_ACT_SHOT,
    }
}

// A bare redirect, XDP.
#[xdp]
pub fn redirect_xdp(_: XdpContext) -> u32 {
    match egress.get(0) {
        // SAFETY: the helper takes plain numbers.
        Some(device) => unsafe { bpf_redirect(*device, 0) as u32 },
        None => xdp_action::XDP_ABORTED,
    }
}

// A bare redirect by a device map, XDP.
#[xdp]
pub fn device_xdp(_: XdpContext) -> u32 {
    by_device()
}

#[inline(always)]
fn by_device() -> u32 {
    egress_device.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED)
}

// Finds the flow, and redirects: XDP.
#[xdp]
pub fn lookup_xdp(context: XdpContext) -> u32 {
    match limit::look_up(Frame::of_xdp(&context)) {
        Some(()) => by_device(),
        None => xdp_action::XDP_PASS,
    }
}

// Finds the flow in a table of its own, and redirects: XDP.
#[xdp]
pub fn search_xdp(context: XdpContext) -> u32 {
    match limit::search(Frame::of_xdp(&context)) {
        Some(()) => by_device(),
        None => xdp_action::XDP_PASS,
    }
}

// Writes to the flow's cache line, and redirects: XDP.
#[xdp]
pub fn line_xdp(context: XdpContext) -> u32 {
    match limit::touch(Frame::of_xdp(&context)) {
        Some(()) => by_device(),
        None => xdp_action::XDP_PASS,
    }
}

// Finds the flow, and redirects to the other end: tc.
#[classifier]
pub fn lookup_tc(context: TcContext) -> i32 {
    match (limit::look_up(Frame::of_tc(&context)), egress.get(0)) {
        // SAFETY: the helper takes plain numbers.
        (Some(()), Some(device)) => unsafe { bpf_redirect_peer(*device, 0) as i32 },
        _ => TC_ACT_UNSPEC,
    }
}

// Finds the flow in a table of its own, and redirects to the other end: tc.
#[classifier]
pub fn search_tc(context: TcContext) -> i32 {
    match (limit::search(Frame::of_tc(&context)), egress.get(0)) {
        // SAFETY: the helper takes plain numbers.
        (Some(()), Some(device)) => unsafe { bpf_redirect_peer(*device, 0) as i32 },
        _ => TC_ACT_UNSPEC,
    }
}

// Writes to the flow's cache line, and redirects to the other end: tc.
#[classifier]
pub fn line_tc(context: TcContext) -> i32 {
    match (limit::touch(Frame::of_tc(&context)), egress.get(0)) {
        // SAFETY: the helper takes plain numbers.
        (Some(()), Some(device)) => unsafe { bpf_redirect_peer(*device, 0) as i32 },
        _ => TC_ACT_UNSPEC,
    }
}

/// As `bpf_redirect_neigh` wants it.
const AF_INET: u32 = 2;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence that the kernel checks.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
