//! Sluice's own allocations: IPReservations, whose names are the addresses.

use std::net::IpAddr;

use kube::api::Api;

use super::{Addresses, AddressesBy, Outcome, Request};
use crate::api::{Holder, IPReservation, IPReservationSpec, describe_service};
use crate::ipam::{Taken, choose, name, requested};
use crate::operator::writer::WriteError;

impl Addresses {
    pub(super) async fn ensure_own(&self, request: &Request<'_>) -> Result<Outcome, WriteError> {
        let holder = Holder::of(request.service);
        let provider = request.provider.to_string();
        let mut taken = Taken::new();
        for known in self.reservations.state() {
            if known.spec.provider == provider && known.spec.service.uid != holder.uid {
                let service = &known.spec.service;
                taken.insert(known.spec.address, format!("Service {}/{}", service.namespace, service.name));
            }
        }
        let held: Vec<IpAddr> =
            self.held(&holder.uid).iter().map(|reservation| reservation.spec.address).collect();
        let given = match requested(request.service) {
            Ok(asked) if asked.is_empty() => held.clone(),
            Ok(_) => Vec::new(),
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let chosen = choose(request.service, request.subnet, request.pools, request.families, &given, &taken);
        let vips = match chosen {
            Ok(vips) => vips,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let api: Api<IPReservation> = Api::all(self.writer.client().clone());
        let mut fresh = false;
        for address in vips.iter().map(|vip| vip.address.addr()).filter(|address| !held.contains(address)) {
            let spec = IPReservationSpec {
                address,
                provider: provider.clone(),
                subnet: request.subnet.name().to_owned(),
                service: holder.clone(),
            };
            let wanted = IPReservation::new(&name::reservation(&provider, address), spec);
            match self.writer.create(&api, &wanted).await {
                Ok(_) => fresh = true,
                Err(WriteError::Conflict(text)) => {
                    let name = name::reservation(&provider, address);
                    if api.get(&name).await?.spec.service.uid != holder.uid {
                        tracing::debug!(service = describe_service(request.service), "{text}");
                        return Err(WriteError::Conflict(text));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome::Given { vips, by: AddressesBy::Us, template_addresses: false, fresh })
    }

    pub(super) async fn free_own(
        &self,
        holder: &Holder,
        keep: impl Fn(IpAddr) -> bool,
    ) -> Result<(), WriteError> {
        let api: Api<IPReservation> = Api::all(self.writer.client().clone());
        for reservation in self.held(&holder.uid) {
            if keep(reservation.spec.address) {
                continue;
            }
            if let (Some(name), Some(uid)) = (&reservation.metadata.name, &reservation.metadata.uid) {
                self.writer.delete_at_once(&api, name, uid).await?;
            }
        }
        Ok(())
    }
}
