//! The IPv6 programs.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the entry points are described where they are implemented; their macro loses the comments"
)]

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sluice_gateway_ebpf::programs::entry;

sluice_gateway_ebpf::tables!(Ipv6: sluice_gateway_ebpf::family::V6, services_v6, targets_v6, flows_v6, replies_v6, fragments_v6, ranges_v6, scratch_v6, hop_v6, handover_v6);

#[classifier]
pub fn forward_v6(context: TcContext) -> i32 {
    entry::forward::<Ipv6>(context.skb.skb)
}

#[classifier]
pub fn reverse_v6(context: TcContext) -> i32 {
    entry::reverse::<Ipv6>(context.skb.skb)
}

#[xdp(frags)]
pub fn xdp_v6(context: XdpContext) -> u32 {
    entry::xdp::<Ipv6>(context.ctx)
}

#[classifier]
pub fn sweep_v6(context: TcContext) -> i32 {
    entry::sweep::<Ipv6>(context.skb.skb)
}

sluice_gateway_ebpf::program_object!();
