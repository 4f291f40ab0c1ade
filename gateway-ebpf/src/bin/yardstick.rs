//! What the hot path is measured against: programs that send a packet on without any NAT. Never part of a gateway.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the entry points are described next to them; their macro loses the comments"
)]
#![expect(non_upper_case_globals, reason = "the kernel knows a map by the name of its static")]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action::XDP_DROP},
    btf_maps::HashMap,
    helpers::generated::bpf_redirect,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sluice_gateway_ebpf::maps::{Flow, FlowKey};

#[btf_map]
static yardstick: HashMap<FlowKey<[u8; 4]>, Flow, 262_144> = HashMap::new();
#[btf_map]
static yardstick_v6: HashMap<FlowKey<[u8; 16]>, Flow, 262_144> = HashMap::new();

/// The loopback device, which exists wherever this runs; a test run sends nothing.
const IFINDEX: u32 = 1;

/// A bare redirect.
#[inline(always)]
fn send() -> i32 {
    // SAFETY: the helper takes plain numbers.
    unsafe { bpf_redirect(IFINDEX, 0) as i32 }
}

/// Whether there is an entry under a key of a flow's size made from the packet.
#[inline(always)]
fn found_v4(data: usize, data_end: usize) -> bool {
    if data + 42 > data_end {
        return false;
    }
    // SAFETY: the headers lie below `data_end`, as just checked.
    let key = unsafe {
        let ports = *((data + 34) as *const u32);
        FlowKey {
            client: (*((data + 26) as *const u32)).to_ne_bytes(),
            vip: (*((data + 30) as *const u32)).to_ne_bytes(),
            client_port: u16::from_be(ports as u16),
            vip_port: u16::from_be((ports >> 16) as u16),
            protocol: u32::from(*((data + 23) as *const u8)),
        }
    };
    yardstick.get_ptr(key).is_some()
}

/// The same for IPv6.
#[inline(always)]
fn found_v6(data: usize, data_end: usize) -> bool {
    if data + 62 > data_end {
        return false;
    }
    // SAFETY: the headers lie below `data_end`, as just checked.
    let key = unsafe {
        let ports = *((data + 54) as *const u32);
        FlowKey {
            client: bytemuck::cast(*((data + 22) as *const [u32; 4])),
            vip: bytemuck::cast(*((data + 38) as *const [u32; 4])),
            client_port: u16::from_be(ports as u16),
            vip_port: u16::from_be((ports >> 16) as u16),
            protocol: u32::from(*((data + 20) as *const u8)),
        }
    };
    yardstick_v6.get_ptr(key).is_some()
}

#[classifier]
pub fn redirect(_: TcContext) -> i32 {
    send()
}

#[classifier]
pub fn lookup_v4(context: TcContext) -> i32 {
    if found_v4(context.data(), context.data_end()) { send() } else { TC_ACT_SHOT }
}

#[classifier]
pub fn lookup_v6(context: TcContext) -> i32 {
    if found_v6(context.data(), context.data_end()) { send() } else { TC_ACT_SHOT }
}

#[xdp]
pub fn xdp_redirect(_: XdpContext) -> u32 {
    send() as u32
}

#[xdp]
pub fn xdp_lookup_v4(context: XdpContext) -> u32 {
    if found_v4(context.data(), context.data_end()) { send() as u32 } else { XDP_DROP }
}

#[xdp]
pub fn xdp_lookup_v6(context: XdpContext) -> u32 {
    if found_v6(context.data(), context.data_end()) { send() as u32 } else { XDP_DROP }
}

sluice_gateway_ebpf::program_object!();
