//! The IPv4 programs.
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

sluice_gateway_ebpf::tables!(Ipv4: sluice_gateway_ebpf::family::V4, services_v4, targets_v4, flows_v4, replies_v4, fragments_v4, ranges_v4, scratch_v4, hop_v4, handover_v4);

#[classifier]
pub fn forward_v4(context: TcContext) -> i32 {
    entry::forward::<Ipv4>(context.skb.skb)
}

#[classifier]
pub fn reverse_v4(context: TcContext) -> i32 {
    entry::reverse::<Ipv4>(context.skb.skb)
}

#[classifier]
pub fn egress_v4(context: TcContext) -> i32 {
    entry::egress::<Ipv4>(context.skb.skb)
}

#[xdp(frags)]
pub fn xdp_v4(context: XdpContext) -> u32 {
    entry::xdp::<Ipv4>(context.ctx)
}

#[classifier]
pub fn sweep_v4(context: TcContext) -> i32 {
    entry::sweep::<Ipv4>(context.skb.skb)
}

sluice_gateway_ebpf::program_object!();
