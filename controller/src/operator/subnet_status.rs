//! The status of the Subnets that give addresses: how much of each is in use.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use serde_json::json;
use tracing::warn;

use super::caches::Caches;
use super::writer::{WriteError, Writer};
use crate::api::{IPReservation, Provider, Subnet, SubnetStatus};
use crate::ipam::{Pools, usage};

/// Changes within this time are one write. At random, so that of several controllers for different namespaces one writes, and the others see
/// that it is done.
const GATHER: Range<f64> = 0.8..1.6;
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the status of all Subnets true, as long as this process leads. A status that is true is not written.
pub async fn keep_true(writer: Writer, caches: Caches) {
    // What changed while nobody led is looked at first.
    caches.counted.notify_one();
    loop {
        caches.counted.notified().await;
        let gather = GATHER.start + fastrand::f64() * (GATHER.end - GATHER.start);
        tokio::time::sleep(Duration::from_secs_f64(gather)).await;
        match write_all(&writer, &caches).await {
            Ok(()) => {}
            Err(WriteError::NotLeading) => return,
            Err(error) => {
                warn!(%error, "could not write a Subnet's status");
                caches.counted.notify_one();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One Subnet that cannot be written does not keep the others from it; the last error is returned.
async fn write_all(writer: &Writer, caches: &Caches) -> Result<(), WriteError> {
    let api: Api<Subnet> = Api::all(writer.client().clone());
    let reservations = caches.reservations.state();
    let mut result = Ok(());
    for subnet in caches.subnets.state() {
        let Some(status) = due(&subnet, &reservations) else { continue };
        let patch = json!({ "metadata": { "uid": subnet.metadata.uid }, "status": status });
        match writer.merge_status(&api, subnet.name(), &patch).await {
            // It went, or another took its name: the cache will tell.
            Ok(_) | Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => {}
            Err(WriteError::NotLeading) => return Err(WriteError::NotLeading),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// The status that `subnet` should have; `None` if it has it, or if it is not ours to say: it is Kube-OVN's, not of an external network, or not
/// a valid Subnet, which the Services that use it are told.
fn due(subnet: &Subnet, reservations: &[Arc<IPReservation>]) -> Option<SubnetStatus> {
    if subnet.is_kube_ovns() || subnet.spec.provider.parse::<Provider>().is_err() {
        return None;
    }
    let pools = Pools::of(subnet).ok()?;
    let of_network =
        reservations.iter().filter(|reservation| reservation.spec.provider == subnet.spec.provider);
    let reserved: Vec<IpAddr> = of_network.map(|reservation| reservation.spec.address).collect();
    let status = usage(&pools, &reserved);
    let known = subnet.status.as_ref();
    known.is_none_or(|known| !says_the_same(known, &status)).then_some(status)
}

/// Whether two statuses differ in no more than what JSON readers make of the last digits of a large number.
fn says_the_same(a: &SubnetStatus, b: &SubnetStatus) -> bool {
    let counts =
        |of: &SubnetStatus| [of.v4_available_ips, of.v4_using_ips, of.v6_available_ips, of.v6_using_ips];
    let near = |(a, b): (f64, f64)| (a - b).abs() <= b.abs() * 4.0 * f64::EPSILON;
    let ranges = |of: &SubnetStatus| {
        let of = of.clone();
        [of.v4_available_ip_range, of.v4_using_ip_range, of.v6_available_ip_range, of.v6_using_ip_range]
    };
    ranges(a) == ranges(b) && counts(a).into_iter().zip(counts(b)).all(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Holder, IPReservationSpec, SubnetSpec};

    fn subnet() -> Subnet {
        let spec = SubnetSpec {
            provider: "net.default".to_owned(),
            cidr_block: "10.0.0.0/29".to_owned(),
            gateway: "10.0.0.1".to_owned(),
            ..SubnetSpec::default()
        };
        Subnet::new("external", spec)
    }

    fn reservation(provider: &str, address: &str) -> Arc<IPReservation> {
        let service = Holder { namespace: "default".to_owned(), name: "web".to_owned(), uid: "1".to_owned() };
        let spec = IPReservationSpec {
            address: address.parse().unwrap(),
            provider: provider.to_owned(),
            subnet: "another".to_owned(),
            service,
        };
        Arc::new(IPReservation::new("name", spec))
    }

    #[test]
    fn what_lies_in_the_subnet_counts_whichever_gave_it() {
        let reservations = [
            reservation("net.default", "10.0.0.3"),
            reservation("net.default", "10.0.1.3"),
            reservation("other.default", "10.0.0.4"),
        ];
        let status = due(&subnet(), &reservations).unwrap();
        assert_eq!((status.v4_using_ips, status.v4_available_ips), (1.0, 4.0));
        assert_eq!(status.v4_using_ip_range, "10.0.0.3");
    }

    #[test]
    fn a_status_of_any_size_is_the_same_when_it_is_read_again() {
        for length in 0..=128 {
            let mut known = subnet();
            known.spec.cidr_block = format!("fd00::/{length}");
            known.spec.gateway = String::new();
            let status = due(&known, &[]).unwrap();
            let text = serde_json::to_string(&status).unwrap();
            known.status = serde_json::from_str(&text).unwrap();
            assert_eq!(due(&known, &[]), None, "/{length}: {text}");
            // One address of few is a difference.
            let one = due(&known, &[reservation("net.default", "fd00::1")]);
            assert!(one.is_some() || length == 128, "/{length}");
        }
    }

    #[test]
    fn what_is_true_or_not_ours_to_say_is_not_written() {
        let mut known = subnet();
        known.status = due(&known, &[]);
        assert_eq!(due(&known, &[]), None);
        assert!(due(&known, &[reservation("net.default", "10.0.0.3")]).is_some());

        let mut kube_ovns = subnet();
        kube_ovns.metadata.finalizers = Some(vec!["kubeovn.io/kube-ovn-controller".to_owned()]);
        assert_eq!(due(&kube_ovns, &[]), None);
        let mut logical = subnet();
        logical.spec.provider = "ovn".to_owned();
        assert_eq!(due(&logical, &[]), None);
        let mut invalid = subnet();
        invalid.spec.cidr_block = "10.0.0.0".to_owned();
        assert_eq!(due(&invalid, &[]), None);
    }
}
