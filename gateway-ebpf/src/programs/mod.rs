//! The tc and XDP programs: thin carriers of the core between the kernel's packet and the maps.
//!
//! `hot` handles the packets of established flows and nothing else; whatever it declines goes through `general`, which
//! handles every packet and would be right alone. At XDP there is only `hot`: what it declines goes on to the tc program.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key passed by value is a second copy on the BPF stack"
)]

mod clock;
pub mod entry;
mod flow;
mod forward;
mod general;
mod hop;
mod hot;
mod icmp_error;
mod icmp_reply;
mod ingress;
mod log;
mod mss;
mod plain;
mod reservation;
mod reverse;
mod rewrite;
mod scratch;
pub mod skb;
mod slow_path;
mod sweep;
pub mod tables;
mod xdp;

use aya_ebpf::helpers::generated::bpf_loop;

pub(crate) use self::clock::now;
use crate::verdict::Drop;

/// The packet is not for this program: the next program, or the kernel, sees it untouched.
pub(crate) const PASS: i32 = aya_ebpf::bindings::TC_ACT_UNSPEC;
/// Internal verdicts below zero are kernel actions or [`PASS`]; from here on, reasons to drop. A BPF subprogram returns one
/// register, so that a `Result` has to be folded into a number between them.
const DROP_BASE: i32 = 0x100;
/// A subprogram has done its part and the packet goes on.
pub(crate) const CONTINUE: i32 = 0x200;

/// Folds a reason into the number that subprograms return.
#[inline(always)]
pub(crate) const fn dropped(reason: Drop) -> i32 {
    DROP_BASE + reason as i32
}

/// Folds an outcome into one number.
#[inline(always)]
pub(crate) const fn fold(outcome: Result<i32, Drop>) -> i32 {
    match outcome {
        Ok(action) => action,
        Err(reason) => dropped(reason),
    }
}

/// Calls `step` with 0, 1, ... below `times` and `state`, until it returns something else than 0 (`bpf_loop`, Linux 5.17). The
/// verifier looks at the step once, however many there are.
#[inline(always)]
pub(crate) fn repeat<S>(times: u32, step: extern "C" fn(u32, *mut S) -> i64, state: &mut S) {
    // SAFETY: the kernel calls `step` with the pointer given here, while this frame lives.
    unsafe { bpf_loop(times, step as *mut core::ffi::c_void, core::ptr::from_mut(state).cast(), 0) };
}
