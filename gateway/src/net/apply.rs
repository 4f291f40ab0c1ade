//! Carrying out a plan, one kernel operation per step.

use std::io;

use netlink_packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::encode;
use super::error::{Cause, Failure};
use super::kernel::Kernel;
use super::plan::Step;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Tries every step, whatever becomes of the others. Returns those that were done and those that failed.
pub(super) async fn apply(kernel: &Kernel, steps: Vec<Step>) -> (Vec<Step>, Vec<Failure>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for step in steps {
        match one(kernel, &step).await {
            Ok(()) => done.push(step),
            Err(error) => failed.push(Failure { cause: Cause::new(&step, error), step }),
        }
    }
    (done, failed)
}

async fn one(kernel: &Kernel, step: &Step) -> io::Result<()> {
    match step {
        Step::Up(port) => kernel.request(Message::SetLink(encode::up(port)), 0).await,
        Step::Set(port, setting, on) => {
            kernel.request(Message::SetLink(encode::setting(port, *setting, *on)), 0).await
        }
        Step::AddAddress(address) => kernel.request(Message::NewAddress(encode::address(address)), NEW).await,
        Step::DeleteAddress(address) => {
            gone(kernel.request(Message::DelAddress(encode::address(address)), 0).await)
        }
        Step::AddRoute(route) => kernel.request(Message::NewRoute(encode::route(route)), NEW).await,
        Step::ReplaceRoute(route) => {
            kernel.request(Message::NewRoute(encode::route(route)), NLM_F_CREATE | NLM_F_REPLACE).await
        }
        Step::DeleteRoute(route) => gone(kernel.request(Message::DelRoute(encode::route(route)), 0).await),
        Step::AddRule(rule) => kernel.request(Message::NewRule(encode::rule(rule)), NEW).await,
        Step::DeleteRule(rule) => gone(kernel.request(Message::DelRule(encode::rule(rule)), 0).await),
    }
}

/// What was to be removed and is not there any more is removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
