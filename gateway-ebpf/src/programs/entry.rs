//! The programs' entry points: one match each from what was decided to what the kernel does.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, xdp_action::XDP_PASS, xdp_md},
    programs::XdpContext,
};

use super::{
    DROP_BASE, PASS, general, hot, log,
    skb::Skb,
    slow_path, sweep,
    tables::{Tables, count_drop},
    xdp::Xdp,
};

/// tc ingress of the external link: from clients to targets.
#[inline(always)]
pub fn forward<T: Tables>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    if !skb.is_for::<T::Family>() {
        return PASS;
    }
    let verdict = match hot::forward::<T>(context) {
        PASS => general::forward::<T>(context),
        verdict => verdict,
    };
    log::verdict(context, "forward", verdict);
    action::<T>(verdict)
}

/// XDP of the external link: established flows from clients to targets. What it declines is unchanged, and the tc program's.
#[inline(always)]
pub fn xdp<T: Tables>(context: *mut xdp_md) -> u32 {
    let frame = Xdp(context);
    if !frame.is_for::<T::Family>() {
        // A device has one XDP program; that of the other family stands behind it. Without one the call does nothing.
        // SAFETY: nothing is borrowed here, and nothing has to be dropped.
        unsafe { T::xdp_next().tail_call(&XdpContext::new(context), 0) };
        return XDP_PASS;
    }
    match hot::to_target::<T, _>(frame) {
        PASS => XDP_PASS,
        action => action as u32,
    }
}

/// tc ingress of the cluster link: from targets to clients.
#[inline(always)]
pub fn reverse<T: Tables>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    if !skb.is_for::<T::Family>() {
        return PASS;
    }
    let verdict = match hot::reverse::<T>(context) {
        PASS => general::reverse::<T>(context),
        verdict => verdict,
    };
    log::verdict(context, "reverse", verdict);
    action::<T>(verdict)
}

/// tc egress of both links, IPv4 only: the second half of the slow path.
#[inline(always)]
pub fn egress<T: Tables<Family = crate::family::V4>>(context: *mut __sk_buff) -> i32 {
    let skb = Skb(context);
    if !slow_path::is_marked(skb.mark()) {
        return PASS;
    }
    match slow_path::finish::<T>(&skb) {
        Ok(()) => PASS,
        Err(reason) => action::<T>(super::dropped(reason)),
    }
}

/// BPF_PROG_TEST_RUN only: deletes what user space names, if it is to be deleted. Returns how many entries were.
#[inline(always)]
pub fn sweep<T: Tables>(context: *mut __sk_buff) -> i32 {
    sweep::run::<T>(Skb(context))
}

/// Turns a folded verdict into a kernel action, and counts the packet if it is dropped.
#[inline(always)]
fn action<T: Tables>(verdict: i32) -> i32 {
    if verdict < DROP_BASE {
        return verdict;
    }
    count_drop::<T>((verdict - DROP_BASE) as u32);
    TC_ACT_SHOT
}
