//! Whether a Service's addresses are published.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Pod};

use crate::api::{Provider, annotation};

/// What counts of a gateway pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPod {
    /// Its condition `Ready`.
    pub ready: bool,
    /// The addresses in its annotations.
    pub carries: Vec<IpAddr>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl GatewayPod {
    /// What counts of `pod`, whose network is `provider`.
    pub fn of(pod: &Pod, provider: &Provider) -> Self {
        let conditions =
            pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready =
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let annotations = pod.metadata.annotations.as_ref();
        let addresses = annotations
            .and_then(|annotations| annotations.get(&annotation::of_provider(provider, "ip_address")));
        let carries = addresses.map(|addresses| parse(addresses).collect()).unwrap_or_default();
        Self { ready, carries, terminating: pod.metadata.deletion_timestamp.is_some() }
    }

    /// Whether it serves all of `addresses`, and is going to.
    pub fn serves(&self, addresses: &[IpAddr]) -> bool {
        self.ready && !self.terminating && addresses.iter().all(|address| self.carries.contains(address))
    }
}

/// Every address that `pod` carries, of whatever network: a pod from before an edit may still answer for it.
pub fn carried(pod: &Pod) -> Vec<IpAddr> {
    let annotations = pod.metadata.annotations.iter().flatten();
    let addresses = annotations.filter(|(key, _)| key.ends_with(".kubernetes.io/ip_address"));
    addresses.flat_map(|(_, addresses)| parse(addresses)).collect()
}

fn parse(addresses: &str) -> impl Iterator<Item = IpAddr> {
    addresses.split(',').filter_map(|address| address.trim().parse().ok())
}

/// What is known of a Service's gateway.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The Service's addresses, in the order of its families; empty: it has none.
    pub addresses: &'a [IpAddr],
    /// Its pods.
    pub pods: &'a [GatewayPod],
    /// What its status shows.
    pub shown: &'a [LoadBalancerIngress],
    /// Since when no pod has served the addresses, by this process's clock; `None`: not seen before.
    pub unserved_since: Option<Instant>,
    /// How long the status outlives the last pod that serves.
    pub grace: Duration,
}

/// What becomes of the status.
#[derive(Clone, Debug, PartialEq)]
pub enum Publication {
    /// The status shows exactly these.
    Publish(Vec<LoadBalancerIngress>),
    /// The status stays as it is, for now.
    Keep {
        /// When to judge again, if nothing happens before.
        look_again_in: Duration,
    },
    /// The status shows nothing.
    Withdraw,
}

/// Judges whether a Service is served, `now`. All families are published or none.
pub fn publication(observed: &Observed<'_>, now: Instant) -> Publication {
    let Observed { addresses, pods, shown, unserved_since, grace } = *observed;
    if !addresses.is_empty() && pods.iter().any(|pod| pod.serves(addresses)) {
        return Publication::Publish(ingress(addresses));
    }
    // What is shown and no longer the Service's may be another's tomorrow.
    let stale = |shown: &LoadBalancerIngress| {
        let address = shown.ip.as_deref().and_then(|ip| ip.parse().ok());
        address.is_none_or(|address| !addresses.contains(&address))
    };
    if shown.is_empty() || shown.iter().any(stale) {
        return Publication::Withdraw;
    }
    let unserved = unserved_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    match grace.checked_sub(unserved).filter(|rest| !rest.is_zero()) {
        Some(look_again_in) => Publication::Keep { look_again_in },
        None => Publication::Withdraw,
    }
}

/// `addresses` as a status shows them.
pub fn ingress(addresses: &[IpAddr]) -> Vec<LoadBalancerIngress> {
    let entry = |address: &IpAddr| LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    };
    addresses.iter().map(entry).collect()
}
