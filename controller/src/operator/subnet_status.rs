//! The status of the Subnets that give addresses: how much of each is in use.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use serde_json::json;
use tracing::warn;

use super::caches::Caches;
use super::writer::{WriteError, Writer};
use crate::api::{IPReservation, Provider, Subnet, SubnetStatus};
use crate::ipam::{Pools, usage};

/// Changes within this time are one write.
const GATHER: Duration = Duration::from_secs(1);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps the status of all Subnets true, as long as this process leads. A status that is true is not written.
pub async fn keep_true(writer: Writer, caches: Caches) {
    // What changed while nobody led is looked at first.
    caches.counted.notify_one();
    loop {
        caches.counted.notified().await;
        tokio::time::sleep(GATHER).await;
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
    (subnet.status.as_ref() != Some(&status)).then_some(status)
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
