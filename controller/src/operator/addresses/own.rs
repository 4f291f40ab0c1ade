//! Sluice's own allocations: IPReservations, whose names are the addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Api, ListParams};

use super::{Addresses, AddressesBy, Outcome, Request};
use crate::api::{Holder, IPReservation};
use crate::ipam::book::{Asking, ingress};
use crate::ipam::{Choice, Family};
use crate::operator::writer::WriteError;

/// How many addresses are tried in one pass that turn out to be somebody else's.
const ATTEMPTS: usize = 64;
/// Reservations that are read at a time: a page takes several times as much memory as what is kept of it.
const PAGE: u32 = 50;

impl Addresses {
    pub(super) async fn ensure_own(
        &self,
        request: &Request<'_>,
        holder: &Holder,
    ) -> Result<Outcome, WriteError> {
        self.settle_doubts(holder).await?;
        let provider = request.provider.to_string();
        let asking = Asking {
            service: request.service,
            holder,
            provider: &provider,
            subnet: request.subnet,
            pools: request.pools,
            families: request.families,
        };
        let mut created = Vec::new();
        for _ in 0..ATTEMPTS {
            let plan = self.book().plan(&self.reservations.state(), asking, Instant::now());
            match plan {
                Err(refusal) => {
                    self.undo(request, holder, &created).await?;
                    return Ok(Outcome::Refused(refusal));
                }
                Ok(plan) => {
                    if self.create_all(plan.create, holder, &mut created).await? {
                        return Ok(given(plan.vips, !created.is_empty()));
                    }
                }
            }
        }
        Ok(Outcome::Waiting {
            reason: format!("{ATTEMPTS} addresses in a row were taken by others meanwhile"),
            again: Duration::from_secs(1),
        })
    }

    /// Creates reservations. Returns `false` if one is another Service's, which the book knows then.
    async fn create_all(
        &self,
        wanted: Vec<IPReservation>,
        holder: &Holder,
        created: &mut Vec<Arc<IPReservation>>,
    ) -> Result<bool, WriteError> {
        let api = self.api();
        for wanted in wanted {
            let name = wanted.metadata.name.clone().unwrap_or_default();
            match self.writer.create(&api, &wanted).await {
                Ok(made) => {
                    created.push(Arc::new(made.clone()));
                    self.book().exists(made, Instant::now());
                }
                Err(WriteError::Conflict(_)) => {
                    // A pass that was cut off may have made it.
                    if self.read(&name, holder).await?.is_none() {
                        return Ok(false);
                    }
                }
                Err(error @ (WriteError::NotLeading | WriteError::Invalid(_) | WriteError::NotFound(_))) => {
                    self.book().absent(&name);
                    return Err(error);
                }
                // Without an answer nobody knows whether it was made: the claim stays.
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Frees what a refused pass has taken, and what one that was cut off has left of a pair: a Service has an address of each family or
    /// none.
    async fn undo(
        &self,
        request: &Request<'_>,
        holder: &Holder,
        created: &[Arc<IPReservation>],
    ) -> Result<(), WriteError> {
        for reservation in created {
            self.free(reservation, holder).await?;
        }
        if !request.pods.is_empty() || !ingress(request.service).is_empty() {
            return Ok(());
        }
        let possible = self.book().possibly_held(&self.reservations.state(), &holder.uid);
        for unanswered in possible.iter().filter(|reservation| reservation.metadata.uid.is_none()) {
            self.read(unanswered.metadata.name.as_deref().unwrap_or_default(), holder).await?;
        }
        let held = self.held(&holder.uid);
        if is_partial(held.iter().map(|held| held.spec.address), request.families) {
            for reservation in &held {
                self.free(reservation, holder).await?;
            }
        }
        Ok(())
    }

    /// Frees what `holder` has or may have, unless `keep` says otherwise.
    pub(super) async fn free_own(
        &self,
        holder: &Holder,
        keep: impl Fn(&IPReservation) -> bool,
    ) -> Result<(), WriteError> {
        let held = self.book().possibly_held(&self.reservations.state(), &holder.uid);
        for reservation in held.iter().filter(|reservation| !keep(reservation)) {
            self.free(reservation, holder).await?;
        }
        Ok(())
    }

    /// Deletes one reservation, if `holder` has it.
    pub(super) async fn free(&self, known: &Arc<IPReservation>, holder: &Holder) -> Result<(), WriteError> {
        let name = known.metadata.name.as_deref().unwrap_or_default();
        let found = match known.metadata.uid {
            Some(_) => Some(Arc::clone(known)),
            None => self.read(name, holder).await?,
        };
        let Some(found) = found else { return Ok(()) };
        let uid = found.metadata.uid.as_deref().unwrap_or_default();
        match self.writer.delete_at_once(&self.api(), name, uid).await {
            // A conflict: ours is gone, and another has the name.
            Ok(()) | Err(WriteError::Conflict(_)) => self.book().freed(&found, Instant::now()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks for reservations that the cache should show by now.
    async fn settle_doubts(&self, holder: &Holder) -> Result<(), WriteError> {
        let doubtful = self.book().doubtful(&self.reservations.state(), &holder.uid, Instant::now());
        for name in doubtful {
            self.read(&name, holder).await?;
        }
        Ok(())
    }

    /// What `holder` has of this name, as the API server says; the book knows it then.
    async fn read(&self, name: &str, holder: &Holder) -> Result<Option<Arc<IPReservation>>, WriteError> {
        let Some(found) = self.api().get_opt(name).await? else {
            self.book().absent(name);
            return Ok(None);
        };
        if found.spec.service.uid != holder.uid {
            self.book().seen(found, Instant::now());
            return Ok(None);
        }
        self.book().exists(found.clone(), Instant::now());
        Ok(Some(Arc::new(found)))
    }

    /// All reservations, as the API server has them now; the book knows them then. Without their definition there are none.
    pub(super) async fn read_all(&self) -> Result<Vec<Arc<IPReservation>>, WriteError> {
        let (cached, began) = (self.reservations.state(), Instant::now());
        let mut listed = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        // All pages are of one moment.
        loop {
            let read = match self.api().list(&page).await.map_err(WriteError::from) {
                Err(WriteError::NotFound(_)) => break,
                read => read?,
            };
            listed.extend(read.items.into_iter().map(|mut reservation| {
                reservation.metadata.managed_fields = None;
                Arc::new(reservation)
            }));
            match read.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        self.book().listed(&cached, &listed, began);
        Ok(listed)
    }

    fn api(&self) -> Api<IPReservation> {
        Api::all(self.writer.client().clone())
    }
}

fn given(vips: Vec<Choice>, fresh: bool) -> Outcome {
    Outcome::Given { vips, by: AddressesBy::Us, fresh }
}

/// Whether `held` are some addresses, but not one of each of `families`.
fn is_partial(held: impl Iterator<Item = IpAddr>, families: &[Family]) -> bool {
    let held: Vec<Family> = held.map(Family::of).collect();
    !held.is_empty() && families.iter().any(|family| !held.contains(family))
}
