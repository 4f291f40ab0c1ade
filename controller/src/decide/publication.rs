//! Whether a Service's addresses are published.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Pod};

use super::pod_trouble::{are_containers_ready, is_ready};
use crate::api::Provider;

/// What counts of a gateway pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPod {
    /// Its condition `Ready`.
    pub ready: bool,
    /// It is not, but its containers are. So Kubernetes marks all pods of a node that it has not heard of: one that is dead, or all of them after the API server was
    /// away for longer than that takes, until their kubelets say otherwise.
    pub unheard_of: bool,
    /// The addresses that it has been given, which its annotations say. One that its template asks for alone is not.
    pub carries: Vec<IpAddr>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl GatewayPod {
    /// What counts of `pod`, whose network is `provider`.
    pub fn of(pod: &Pod, provider: &Provider) -> Self {
        let provider = provider.to_string();
        Self::of_networks(pod, |of| of == provider)
    }

    /// The same, whatever its network is.
    pub fn of_any_network(pod: &Pod) -> Self {
        Self::of_networks(pod, |_| true)
    }

    fn of_networks(pod: &Pod, is_meant: impl Fn(&str) -> bool) -> Self {
        let is_given = |provider: &str| {
            let annotations = pod.metadata.annotations.as_ref();
            let allocated = annotations
                .and_then(|annotations| annotations.get(&format!("{provider}.kubernetes.io/allocated")));
            allocated.is_some_and(|allocated| allocated == "true")
        };
        let given = named(pod).filter(|(provider, _)| is_meant(provider) && is_given(provider));
        let ready = pod.status.as_ref().is_some_and(is_ready);
        Self {
            ready,
            unheard_of: !ready && pod.status.as_ref().is_some_and(are_containers_ready),
            carries: given.flat_map(|(_, addresses)| parse(addresses)).collect(),
            terminating: pod.metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether it serves all of `addresses`, and is going to.
    pub fn serves(&self, addresses: &[IpAddr]) -> bool {
        self.ready && self.stays_with(addresses)
    }

    /// Whether it serves them as far as anybody knows: what is published stays. A pod of a node that is dead is deleted soon, as its tolerations say.
    pub fn may_serve(&self, addresses: &[IpAddr]) -> bool {
        (self.ready || self.unheard_of) && self.stays_with(addresses)
    }

    fn stays_with(&self, addresses: &[IpAddr]) -> bool {
        !self.terminating && addresses.iter().all(|address| self.carries.contains(address))
    }
}

/// Every address that `pod` may carry, of whatever network: a pod from before an edit may still answer for it.
pub fn carried(pod: &Pod) -> Vec<IpAddr> {
    named(pod).flat_map(|(_, addresses)| parse(addresses)).collect()
}

/// The addresses in the annotations of `pod`, and the provider of each. Its address in the cluster, which Kube-OVN writes in the
/// same form, is none of them.
fn named(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    pod.metadata.annotations.iter().flatten().filter_map(|(key, addresses)| {
        let provider = key.strip_suffix(".kubernetes.io/ip_address")?;
        provider.parse::<Provider>().is_ok().then_some((provider, addresses.as_str()))
    })
}

/// The addresses that a Service was served at, judged by what it shows and by its pods: for one that is written in a way now that
/// says nothing of them. Empty: it was not.
pub fn served_before(shown: &[LoadBalancerIngress], pods: &[GatewayPod]) -> Vec<IpAddr> {
    let shown: Vec<IpAddr> = shown.iter().filter_map(|shown| shown.ip.as_deref()?.parse().ok()).collect();
    let serves = |pod: &&GatewayPod| pod.ready && !pod.terminating;
    if !shown.is_empty() {
        return shown;
    }
    pods.iter().find(serves).map(|pod| pod.carries.clone()).unwrap_or_default()
}

/// The addresses in an annotation.
pub(super) fn parse(addresses: &str) -> impl Iterator<Item = IpAddr> {
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
    /// Since when no pod may have served the addresses, by this process's clock; `None`: not seen before.
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

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::json;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ready(carries: &[&str]) -> GatewayPod {
        GatewayPod { ready: true, unheard_of: false, carries: addresses(carries), terminating: false }
    }

    /// Judges a Service with `wanted`, whose status shows `shown`, that has not been served for `unserved`.
    fn judged(wanted: &[&str], pods: &[GatewayPod], shown: &[&str], unserved: Option<u64>) -> Publication {
        let start = Instant::now();
        let now = start + Duration::from_secs(unserved.unwrap_or_default());
        let observed = Observed {
            addresses: &addresses(wanted),
            pods,
            shown: &ingress(&addresses(shown)),
            unserved_since: unserved.map(|_| start),
            grace: GRACE,
        };
        publication(&observed, now)
    }

    const A: &str = "172.18.0.18";
    const B: &str = "172.18.0.19";
    const SIX: &str = "fd00:18::18";

    fn keep(seconds: u64) -> Publication {
        Publication::Keep { look_again_in: Duration::from_secs(seconds) }
    }

    #[test]
    fn published_while_a_pod_serves() {
        let expected = Publication::Publish(ingress(&addresses(&[A])));
        for shown in [&[][..], &[A], &[B]] {
            assert_eq!(judged(&[A], &[ready(&[A])], shown, None), expected, "{shown:?}");
        }
        let not_ready = GatewayPod { ready: false, ..ready(&[A]) };
        let leaving = GatewayPod { terminating: true, ..ready(&[A]) };
        assert_eq!(judged(&[A], &[not_ready.clone(), ready(&[A])], &[], Some(99)), expected);
        for pods in [vec![], vec![not_ready], vec![leaving], vec![ready(&[B])], vec![ready(&[])]] {
            assert_eq!(judged(&[A], &pods, &[], None), Publication::Withdraw, "{pods:?}");
        }
    }

    #[test]
    fn what_was_served_is_what_is_shown_or_what_a_pod_that_serves_has() {
        let before = |shown: &[&str], pods: &[GatewayPod]| served_before(&ingress(&addresses(shown)), pods);
        assert_eq!(
            before(&[A], &[ready(&[B])]),
            addresses(&[A]),
            "a pod with another address does not change it"
        );
        assert_eq!(before(&[], &[ready(&[B, SIX])]), addresses(&[B, SIX]));
        let (not_ready, leaving) =
            (GatewayPod { ready: false, ..ready(&[A]) }, GatewayPod { terminating: true, ..ready(&[A]) });
        assert_eq!(before(&[], &[not_ready, leaving]), Vec::<IpAddr>::new());
    }

    #[test]
    fn an_entry_of_each_family_in_the_services_order() {
        let publish = |wanted: &[&str]| match judged(wanted, &[ready(&[A, SIX])], &[], None) {
            Publication::Publish(ingress) => serde_json::to_value(ingress).unwrap(),
            other => panic!("{other:?}"),
        };
        let (four, six) = (json!({"ip": A, "ipMode": "VIP"}), json!({"ip": SIX, "ipMode": "VIP"}));
        assert_eq!(publish(&[SIX, A]), json!([six, four]));
        assert_eq!(publish(&[A, SIX]), json!([four, six]));
        assert_eq!(publish(&[A]), json!([four]));
        assert_eq!(judged(&[A, SIX], &[ready(&[A])], &[], None), Publication::Withdraw, "both or none");
    }

    #[test]
    fn withdrawn_after_the_grace_period() {
        assert_eq!(judged(&[A], &[], &[A], None), keep(30), "the clock starts now");
        assert_eq!(judged(&[A], &[], &[A], Some(1)), keep(29));
        assert_eq!(judged(&[A], &[], &[A], Some(30)), Publication::Withdraw);
        assert_eq!(judged(&[A, SIX], &[ready(&[A])], &[A], Some(10)), keep(20));
    }

    #[test]
    fn a_pod_that_is_not_heard_of_may_serve_until_it_is_deleted() {
        let pod = GatewayPod { ready: false, unheard_of: true, ..ready(&[A]) };
        assert!(!pod.serves(&addresses(&[A])) && pod.may_serve(&addresses(&[A])));
        assert_eq!(
            judged(&[A], slice::from_ref(&pod), &[], None),
            Publication::Withdraw,
            "not published anew"
        );
        assert!(!pod.may_serve(&addresses(&[B])));
        let deleted = GatewayPod { terminating: true, ..pod.clone() };
        let broken = GatewayPod { unheard_of: false, ..pod };
        assert!(![deleted, broken].iter().any(|pod| pod.may_serve(&addresses(&[A]))));
    }

    #[test]
    fn an_address_that_is_no_longer_the_services_goes_at_once() {
        assert_eq!(judged(&[B], &[], &[A], Some(1)), Publication::Withdraw);
        assert_eq!(judged(&[], &[], &[A], None), Publication::Withdraw);
        let observed = Observed {
            addresses: &addresses(&[A]),
            pods: &[],
            shown: &[LoadBalancerIngress {
                hostname: Some("a".to_owned()),
                ..LoadBalancerIngress::default()
            }],
            unserved_since: None,
            grace: GRACE,
        };
        assert_eq!(publication(&observed, Instant::now()), Publication::Withdraw);
    }

    #[test]
    fn what_counts_of_a_pod() {
        let provider = "lb-svc-attachment.kube-system".parse().unwrap();
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"annotations": {
                "lb-svc-attachment.kube-system.kubernetes.io/ip_address": "172.18.0.18,fd00:18::18",
                "lb-svc-attachment.kube-system.kubernetes.io/allocated": "true",
                "ovn.kubernetes.io/ip_address": "10.16.0.2",
                "ovn.kubernetes.io/allocated": "true",
            }},
            "status": {"conditions": [
                {"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True"},
            ]},
        }))
        .unwrap();
        assert_eq!(GatewayPod::of(&pod, &provider), ready(&[A, SIX]));
        assert_eq!(GatewayPod::of_any_network(&pod), ready(&[A, SIX]));
        assert_eq!(carried(&pod), addresses(&[A, SIX]));
        // Its template has asked for it, and nobody has given it yet.
        let allocated = "lb-svc-attachment.kube-system.kubernetes.io/allocated";
        pod.metadata.annotations.as_mut().unwrap().remove(allocated).unwrap();
        assert_eq!(GatewayPod::of(&pod, &provider), ready(&[]));
        assert_eq!(carried(&pod), addresses(&[A, SIX]), "but it may have it in a moment");
        let conditions =
            json!([{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]);
        pod.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
        pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        pod.metadata.annotations = None;
        let expected = GatewayPod { ready: false, unheard_of: true, carries: Vec::new(), terminating: true };
        assert_eq!(GatewayPod::of(&pod, &provider), expected);
    }
}
