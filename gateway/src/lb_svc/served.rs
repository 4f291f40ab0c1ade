//! Does the gateway do what was asked for?

use std::net::SocketAddr;

use super::operation::{Dnat, Operation};
use super::state::State;
use crate::status::{ServicePort, Status};

/// What `operation` has asked for and the gateway, by its own `status`, does not do, one sentence each. What another operation
/// has asked for since, by `state`, goes before.
pub fn unserved(operation: &Operation, state: &State, status: &Status) -> Vec<String> {
    let mut reasons = match operation {
        // An address without a port is not the gateway's to serve.
        Operation::Init => return Vec::new(),
        Operation::EipAdd(eips) => {
            let served =
                state.served_eips().filter(|served| eips.iter().any(|eip| eip.address == served.address));
            let absent = served.filter(|eip| {
                !status
                    .vips
                    .iter()
                    .any(|vip| vip.address == eip.address && vip.gateway == eip.gateway && vip.present)
            });
            absent.map(|eip| format!("{} is not served yet", eip.address)).collect::<Vec<_>>()
        }
        Operation::DnatAdd(dnats) | Operation::DnatDel(dnats) => {
            dnats.iter().filter_map(|dnat| difference(dnat, state, status)).collect()
        }
    };
    if !state.dnats().is_empty() {
        reasons.extend(status.not_ready.iter().cloned());
    }
    let refusal = status.config.as_ref().and_then(|config| config.refusal.as_ref());
    if !reasons.is_empty()
        && let Some(refusal) = refusal
    {
        reasons.push(refusal.error.clone());
    }
    reasons
}

fn difference(dnat: &Dnat, state: &State, status: &Status) -> Option<String> {
    let port = format!("{} {} {}", dnat.vip, dnat.protocol.name(), dnat.port);
    let wanted = state.same_port(dnat).map(|wanted| SocketAddr::new(wanted.target, wanted.target_port));
    let found = status.services.iter().find(|service| is_port(service, dnat)).map(|service| &service.targets);
    match (wanted, found) {
        (None, None) => None,
        (None, Some(_)) => Some(format!("{port} is still forwarded")),
        (Some(_), None) => Some(format!("{port} is not forwarded yet")),
        (Some(wanted), Some(targets)) => {
            (targets.as_slice() != [wanted]).then(|| format!("{port} is not forwarded to {wanted} yet"))
        }
    }
}

fn is_port(service: &ServicePort, dnat: &Dnat) -> bool {
    service.port == dnat.port
        && service.protocol.eq_ignore_ascii_case(dnat.protocol.name())
        && service.vips.contains(&dnat.vip)
}
