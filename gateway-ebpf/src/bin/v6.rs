//! The IPv6 programs.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the entry points are named in docs; their macro loses the comments")]

use aya_ebpf::{macros::classifier, programs::TcContext};

sluice_gateway_ebpf::programs!(sluice_gateway_ebpf::family::V6, v6);

#[classifier]
pub fn forward_v6(_ctx: TcContext) -> i32 {
    if let Some(c) = tables::config.get(0)
        && let Some(f) = tables::flows_v6.get_ptr(sluice_gateway_ebpf::maps::FlowKey::default())
    {
        return c.external_ifindex as i32 + unsafe { (*f).snat_port as i32 };
    }
    -1
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The licence that the kernel checks: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
