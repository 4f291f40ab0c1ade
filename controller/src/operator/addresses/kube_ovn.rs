//! Addresses of Kube-OVN's Subnets: which way it is asked, and what it answers to gateway pods.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::{Addresses, AddressesBy, Outcome, Request};
use crate::Refusal;
use crate::api::{Holder, Vip, namespace};
use crate::decide::{Backend, Evidence, backend, carrier, gives_to_pods, remembered, unanswered_pod};
use crate::ipam::book::ingress;
use crate::ipam::{Had, Taken, preferred};
use crate::operator::writer::WriteError;

/// The reason of Kube-OVN's Events on pods that it refuses an address.
const REFUSED: &str = "AcquireAddressFailed";
/// Kube-OVN answers within a second, and the pods' watch tells; this is for the patience that runs out.
const AGAIN: Duration = Duration::from_secs(2);
/// It tries again by itself, at growing intervals.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

impl Addresses {
    pub(super) async fn ensure_kube_ovn(
        &self,
        request: &Request<'_>,
        holder: &Holder,
    ) -> Result<Outcome, WriteError> {
        let Request { provider, subnet, pods, .. } = *request;
        let mut vips = self.vips_of(holder).await?;
        vips.retain(|vip| vip.spec.subnet == subnet.name());
        let unanswered = unanswered_pod(pods, provider, subnet);
        let waited = unanswered.map(|pod| self.memory.awaited(&holder.uid, &pod.uid().unwrap_or_default()));
        let refused = match unanswered {
            Some(pod) => self.refusal_to(pod).await?,
            None => None,
        };
        let by = backend(&Evidence {
            kube_ovns: true,
            mode: self.mode,
            has_vip: !vips.is_empty(),
            network_asks_kube_ovn: request.network.ipam.as_deref() == Some("kube-ovn"),
            pod_answered: refused.is_some() || gives_to_pods(pods, provider, subnet),
            pod_unanswered: waited,
        });
        match by {
            Backend::KubeOvnVip => self.ensure_vip(request, holder, &vips).await,
            Backend::Own | Backend::KubeOvnPod => Ok(self.ensure_pod(request, holder, refused)),
        }
    }

    /// Reads the answer from the pods. Nothing is written: the pod template is the request.
    fn ensure_pod(&self, request: &Request<'_>, holder: &Holder, refused: Option<String>) -> Outcome {
        let Request { provider, subnet, families, pods, .. } = *request;
        let template = remembered(request.deployment, provider, subnet);
        let wanted = match self.wanted(request, holder, &template) {
            Ok(wanted) => wanted,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        if let Some(given) = carrier(pods, provider, subnet, families, &wanted) {
            return self.given_by_kube_ovn(request, holder, &given, AddressesBy::KubeOvn);
        }
        let wanted: Vec<IpAddr> = wanted.into_iter().flatten().collect();
        match refused {
            // Before the template asks for what is wanted now, the refusal is of another request.
            Some(text) if wanted.iter().all(|address| template.contains(address)) => Outcome::Waiting {
                reason: format!(
                    "Kube-OVN gives the gateway pod no address of {}: {text}; free the address, or ask for another in spec.loadBalancerIP",
                    subnet.describe()
                ),
                again: AFTER_REFUSAL,
            },
            _ => Outcome::NeedsPod { requested: wanted, again: AGAIN },
        }
    }

    /// Which addresses to ask Kube-OVN for; it knows itself what others have. `held` is what it has given before.
    pub(super) fn wanted(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        held: &[IpAddr],
    ) -> Result<Vec<Option<IpAddr>>, Refusal> {
        // A Subnet that was ours before: what we gave in it stays, if Kube-OVN agrees.
        let provider = request.provider.to_string();
        let ours = self.held(&holder.uid);
        let ours = ours.iter().filter(|reservation| reservation.spec.provider == provider);
        let mut shown: Vec<IpAddr> = ours.map(|reservation| reservation.spec.address).collect();
        shown.extend(ingress(request.service));
        let had = Had { held, shown: &shown };
        let Request { service, subnet, pools, families, .. } = *request;
        preferred(service, subnet, pools, families, had, &Taken::new())
    }

    /// The outcome of an address that Kube-OVN has given.
    pub(super) fn given_by_kube_ovn(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        given: &[IpAddr],
        by: AddressesBy,
    ) -> Outcome {
        let shown = ingress(request.service);
        let was_awaited = self.memory.answered(&holder.uid);
        let fresh = was_awaited && !given.iter().all(|address| shown.contains(address));
        let vips = request.pools.choices(given);
        Outcome::Given { vips, by, fresh }
    }

    /// What Kube-OVN says of an address that `pod` cannot have.
    async fn refusal_to(&self, pod: &Arc<Pod>) -> Result<Option<String>, WriteError> {
        let events: Api<Event> = Api::namespaced(self.writer.client().clone(), namespace(&pod.metadata));
        let fields = format!(
            "involvedObject.kind=Pod,involvedObject.name={},involvedObject.uid={},reason={REFUSED}",
            pod.name_any(),
            pod.uid().unwrap_or_default()
        );
        let found = events.list(&ListParams::default().fields(&fields)).await?.items;
        let latest = found.into_iter().max_by_key(|event| {
            (event.last_timestamp.as_ref().map(|time| time.0), event.event_time.as_ref().map(|time| time.0))
        });
        Ok(latest.and_then(|event| event.message))
    }

    /// The Service's Vips, of whatever Subnet.
    pub(super) async fn vips_of(&self, holder: &Holder) -> Result<Vec<Vip>, WriteError> {
        let mut vips = Vec::new();
        for name in self.memory.vips(&holder.uid) {
            match self.vip_api().get_opt(&name).await? {
                Some(vip) => vips.push(vip),
                None => self.memory.lacks_vip(&holder.uid, &name),
            }
        }
        Ok(vips)
    }
}
