//! Addresses that Kube-OVN gives to `Vip` objects.

use std::net::IpAddr;
use std::time::Duration;

use kube::api::{Api, ListParams};

use super::{Addresses, AddressesBy, Outcome, Request};
use crate::Refusal;
use crate::api::{Holder, Vip, VipSpec};
use crate::decide::{vip, vip_addresses, vip_holder};
use crate::desired::MANAGED_BY;
use crate::ipam::{matching, requested};
use crate::operator::writer::WriteError;

/// Kube-OVN answers within a second. Vips are not watched: they exist only where Kube-OVN does.
const AGAIN: Duration = Duration::from_secs(1);
/// After this, no answer is taken for a conflict: only Kube-OVN's log tells which it is.
const PATIENCE: Duration = Duration::from_secs(20);
/// It tries again by itself, at growing intervals.
const AFTER_CONFLICT: Duration = Duration::from_secs(10);

impl Addresses {
    /// `vips` are those that the Service has of the Subnet.
    pub(super) async fn ensure_vip(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        vips: &[Vip],
    ) -> Result<Outcome, WriteError> {
        let held: Vec<IpAddr> = vips.iter().flat_map(vip_addresses).collect();
        let asked = match requested(request.service) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let wanted = match self.wanted(request, holder, &held) {
            Ok(wanted) => wanted,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let given = vips.iter().find_map(|vip| matching(&vip_addresses(vip), request.families, &wanted));
        if let Some(given) = given {
            return Ok(self.given_by_kube_ovn(request, holder, &given, AddressesBy::Us));
        }
        let wanted: Vec<IpAddr> = wanted.into_iter().flatten().collect();
        let (made, any) = (vip(holder, request.subnet, &wanted), vip(holder, request.subnet, &[]));
        let asks = |spec: &VipSpec| vips.iter().find(|vip| vip.spec == *spec);
        // Without a request any address will do: it was asked for when the one that is shown could not be had.
        let pending =
            if asked.is_empty() { asks(&any.spec).or_else(|| asks(&made.spec)) } else { asks(&made.spec) };
        let Some(pending) = pending else { return self.create_vip(holder, &made).await };
        let name = pending.metadata.name.clone().unwrap_or_default();
        if self.memory.awaited(&holder.uid, &name) < PATIENCE {
            return Ok(awaiting(&name));
        }
        if asked.is_empty() && pending.spec != any.spec {
            self.free_vip(holder, pending).await?;
            return self.create_vip(holder, &any).await;
        }
        let asked: Vec<String> = asked.iter().map(IpAddr::to_string).collect();
        let wish = if asked.is_empty() { "an address".to_owned() } else { asked.join(" and ") };
        let reason = format!(
            "Vip {name}: spec: Kube-OVN has not given {wish} of {} for {} s; it is probably taken, or none is free (Kube-OVN's log says AddressConflict then): free it, or ask for another in spec.loadBalancerIP",
            request.subnet.describe(),
            PATIENCE.as_secs()
        );
        Ok(Outcome::Waiting { reason, again: AFTER_CONFLICT })
    }

    async fn create_vip(&self, holder: &Holder, wanted: &Vip) -> Result<Outcome, WriteError> {
        let name = wanted.metadata.name.clone().unwrap_or_default();
        match self.writer.create(&self.vip_api(), wanted).await {
            Ok(_) => {}
            Err(WriteError::Conflict(_)) => {
                let found = self.vip_api().get_opt(&name).await?;
                if found.is_some_and(|found| vip_holder(&found).as_ref() != Some(holder)) {
                    return Ok(Outcome::Refused(Refusal::new(
                        &format!("Vip {name}"),
                        "metadata.labels",
                        "it exists and does not belong to this Service, so it is not touched",
                        "delete it",
                    )));
                }
            }
            Err(error) => return Err(error),
        }
        self.memory.has_vip(&holder.uid, &name);
        self.memory.awaited(&holder.uid, &name);
        Ok(awaiting(&name))
    }

    /// Frees the Service's Vips, unless `keep` says otherwise.
    pub(super) async fn free_vips(
        &self,
        holder: &Holder,
        keep: impl Fn(&Vip) -> bool,
    ) -> Result<(), WriteError> {
        for vip in self.vips_of(holder).await?.iter().filter(|vip| !keep(vip)) {
            self.free_vip(holder, vip).await?;
        }
        Ok(())
    }

    pub(super) async fn free_vip(&self, holder: &Holder, vip: &Vip) -> Result<(), WriteError> {
        let (name, uid) = (
            vip.metadata.name.as_deref().unwrap_or_default(),
            vip.metadata.uid.as_deref().unwrap_or_default(),
        );
        match self.writer.delete_at_once(&self.vip_api(), name, uid).await {
            // A conflict: it went, and another has the name.
            Ok(()) | Err(WriteError::Conflict(_)) => self.memory.lacks_vip(&holder.uid, name),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All Vips that we have made, as the API server has them now; none where there is no such kind.
    pub(super) async fn read_vips(&self) -> Result<Vec<Vip>, WriteError> {
        let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        match self.vip_api().list(&ours).await.map_err(WriteError::from) {
            Ok(list) => Ok(list.items),
            Err(WriteError::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn vip_api(&self) -> Api<Vip> {
        Api::all(self.writer.client().clone())
    }
}

fn awaiting(name: &str) -> Outcome {
    let reason = format!("Kube-OVN has not answered to Vip {name} yet");
    Outcome::Waiting { reason, again: AGAIN }
}
