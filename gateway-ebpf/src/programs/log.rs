//! A line for each packet, in a debug build of the programs only (`cargo xtask build-ebpf --debug-log`). The loader prints them.

use aya_ebpf::bindings::__sk_buff;

/// Tells what became of a packet.
#[cfg(feature = "log")]
#[inline(always)]
pub(super) fn verdict(context: *mut __sk_buff, program: &'static str, verdict: i32) {
    let context = aya_ebpf::programs::TcContext::new(context);
    let length = context.len();
    if verdict < super::DROP_BASE {
        aya_log_ebpf::debug!(&context, "{}: {} bytes: action {}", program, length, verdict);
    } else {
        aya_log_ebpf::debug!(
            &context,
            "{}: {} bytes: dropped, reason {}",
            program,
            length,
            verdict - super::DROP_BASE
        );
    }
}

/// Nothing, and no code for it.
#[cfg(not(feature = "log"))]
#[inline(always)]
pub(super) const fn verdict(_context: *mut __sk_buff, _program: &'static str, _verdict: i32) {}
