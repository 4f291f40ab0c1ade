//! Requests and limits of the gateway's container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Inputs, memory, quantity};
use crate::Refusal;
use crate::api::{annotation, describe_service};
use crate::ipam::Family;

const MEMORY: &str = "memory";
const CPU: &str = "cpu";
/// The daemon takes 0.2 % of a CPU while nothing happens; the packets are the kernel's work.
const CPU_REQUEST: &str = "10m";

/// What the settings say, with memory for the maps where they say nothing: requested and limited, since the maps are there
/// in full from the start.
///
/// # Errors
/// A memory limit below what the maps take, or a request above its limit.
pub(super) fn resources(inputs: &Inputs<'_>) -> Result<ResourceRequirements, Refusal> {
    let settings = inputs.settings;
    let families = || inputs.vips.iter().map(|vip| Family::of(vip.address.addr()));
    let refuse = |fault: String, fix: String| {
        let field = format!("metadata.annotations[{}]", annotation::RESOURCES);
        Refusal::new(&describe_service(inputs.service), field, fault, fix)
    };
    let mut requests = settings.resources.requests.clone().unwrap_or_default();
    let mut limits = settings.resources.limits.clone().unwrap_or_default();
    let derived = Quantity(quantity::of_mebibytes(memory::pod_mib(settings.max_flows, families())));

    let limit = limits.entry(MEMORY.to_owned()).or_insert_with(|| {
        let request = requests.get(MEMORY).filter(|request| amount(request) > amount(&derived));
        request.unwrap_or(&derived).clone()
    });
    let least = memory::least_mib(settings.max_flows, families());
    if amount(limit) < quantity::value(&format!("{least}Mi")) {
        return Err(refuse(
            format!("limits.memory is {}, and {} flows need {least}Mi", limit.0, settings.max_flows),
            format!("raise it to {} or more, or set {} lower", derived.0, annotation::MAX_FLOWS),
        ));
    }
    let smaller = if amount(limit) < amount(&derived) { limit.clone() } else { derived };
    requests.entry(MEMORY.to_owned()).or_insert(smaller);
    if !limits.contains_key(CPU) {
        requests.entry(CPU.to_owned()).or_insert_with(|| Quantity(CPU_REQUEST.to_owned()));
    }
    for (name, limit) in &limits {
        if let Some(request) = requests.get(name).filter(|request| amount(request) > amount(limit)) {
            return Err(refuse(
                format!("requests.{name} is {}, and limits.{name} {}", request.0, limit.0),
                "request no more than the limit".to_owned(),
            ));
        }
    }
    Ok(ResourceRequirements { claims: None, requests: Some(requests), limits: some(limits) })
}

fn amount(quantity: &Quantity) -> Option<i128> {
    quantity::value(&quantity.0)
}

fn some<K: Ord, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}
