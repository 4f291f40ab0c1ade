//! Which Services are ours, and which network each one means.

use std::borrow::Borrow;

use k8s_openapi::api::core::v1::Service;

use crate::Refusal;
use crate::api::{NetworkAttachmentDefinition, Provider, Subnet, annotation, describe_service, namespace};

/// Whether a Service is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Ours, on this network.
    Ours(Provider),
    /// Somebody else's, and why.
    NotOurs(String),
}

/// Judges `service` by its type, class and provider annotation.
///
/// # Errors
/// The Service asks for Sluice, but not for a network, or for one that cannot be.
pub fn select(service: &Service) -> Result<Selection, Refusal> {
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
    if kind != "LoadBalancer" {
        return Ok(Selection::NotOurs(format!("spec.type is {kind}, not LoadBalancer")));
    }
    let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
    if let Some(other) = class.filter(|class| *class != annotation::LOAD_BALANCER_CLASS) {
        let ours = annotation::LOAD_BALANCER_CLASS;
        return Ok(Selection::NotOurs(format!(
            "spec.loadBalancerClass is {other}, not {ours} and not unset"
        )));
    }
    let field = format!("metadata.annotations[{}]", annotation::ATTACHMENT_PROVIDER);
    let fix = "write <name>.<namespace> of a NetworkAttachmentDefinition";
    match annotation::get(service, annotation::ATTACHMENT_PROVIDER) {
        None if class.is_none() => Ok(Selection::NotOurs(format!("{field} is absent"))),
        None => Err(Refusal::new(&describe_service(service), field, "absent", fix)),
        Some(text) => match text.parse() {
            Ok(provider) => Ok(Selection::Ours(provider)),
            Err(fault) => {
                Err(Refusal::new(&describe_service(service), field, format!("`{text}` is {fault}"), fix))
            }
        },
    }
}

/// The NetworkAttachmentDefinition of `provider` among `known`.
///
/// # Errors
/// There is none.
pub fn attachment<'a, N: Borrow<NetworkAttachmentDefinition>>(
    service: &Service,
    provider: &Provider,
    known: &'a [N],
) -> Result<&'a N, Refusal> {
    let wanted = |nad: &&N| {
        let nad: &NetworkAttachmentDefinition = (*nad).borrow();
        nad.metadata.name.as_deref() == Some(&provider.nad) && namespace(&nad.metadata) == provider.namespace
    };
    known.iter().find(wanted).ok_or_else(|| {
        Refusal::new(
            &describe_service(service),
            format!("metadata.annotations[{}]", annotation::ATTACHMENT_PROVIDER),
            format!("`{provider}`: there is no such NetworkAttachmentDefinition"),
            format!("create {} in namespace {}, or name another", provider.nad, provider.namespace),
        )
    })
}

/// The Subnet that gives the VIP: the one that the Service names, else the only one of `provider`.
///
/// # Errors
/// The named Subnet does not exist or is of another provider; none is named, and there is not exactly one.
pub fn subnet<'a, S: Borrow<Subnet>>(
    service: &Service,
    provider: &Provider,
    known: &'a [S],
) -> Result<&'a S, Refusal> {
    let key = annotation::logical_switch(provider);
    let refuse = |fault: String, fix: String| {
        Refusal::new(&describe_service(service), format!("metadata.annotations[{key}]"), fault, fix)
    };
    let provides = |subnet: &Subnet| subnet.spec.provider == provider.to_string();
    if let Some(name) = annotation::get(service, &key) {
        let Some(found) = known.iter().find(|known| (*known).borrow().name() == name) else {
            return Err(refuse(
                format!("`{name}`: there is no such Subnet"),
                "create it, or name another".to_owned(),
            ));
        };
        let subnet: &Subnet = found.borrow();
        if !provides(subnet) {
            return Err(refuse(
                format!("`{name}` has the provider `{}`, not `{provider}`", subnet.spec.provider),
                "name a Subnet of the Service's provider".to_owned(),
            ));
        }
        return Ok(found);
    }
    let candidates: Vec<&S> = known.iter().filter(|known| provides((*known).borrow())).collect();
    match candidates.as_slice() {
        [subnet] => Ok(*subnet),
        [] => Err(refuse(
            format!("absent, and no Subnet has the provider `{provider}`"),
            format!("create a Subnet with `spec.provider: {provider}`"),
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|known| (*known).borrow().name()).collect();
            Err(refuse(
                format!("absent, and several Subnets have the provider `{provider}`"),
                format!("name one of {}", names.join(", ")),
            ))
        }
    }
}
