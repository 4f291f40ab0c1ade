//! What this process knows of reservations and its cache does not show yet.
//!
//! A cache is older than the last write. Who allocates from it alone gives a Service a second address when its pass is repeated, and lets
//! many Services at once fight for the same lowest address. The book lies over the cache: what is being taken, what exists for certain, and
//! what was freed, each until the cache shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;

use super::{Choice, Family, Had, Pools, Taken, choose, name};
use crate::Refusal;
use crate::api::{Holder, IPReservation, IPReservationSpec, Subnet};

/// How long a cache may lag before a reservation that it does not show is asked for.
const DOUBT: Duration = Duration::from_secs(10);
/// How long a freed reservation is remembered, for a cache that shows it only after it was freed; and how long one of somebody else's is
/// believed in that the cache does not show.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Reservations beyond the cache.
#[derive(Debug, Default)]
pub struct Book {
    /// By name.
    entries: BTreeMap<String, Entry>,
    /// UIDs of reservations that were deleted, and when.
    freed: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Entry {
    reservation: Arc<IPReservation>,
    state: State,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is being created, or its creation was left without an answer.
    Claimed,
    /// The API server has said that it exists.
    Exists,
    /// The API server has said that it exists for another Service than the one that looked.
    Seen,
}

/// What addresses are wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The Service.
    pub service: &'a Service,
    /// The same, as a holder.
    pub holder: &'a Holder,
    /// Its network, as `<nad>.<namespace>`.
    pub provider: &'a str,
    /// The Subnet that gives the addresses.
    pub subnet: &'a Subnet,
    /// Its pools.
    pub pools: &'a Pools,
    /// One address of each.
    pub families: &'a [Family],
}

/// The addresses that a Service gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// All of them.
    pub vips: Vec<Choice>,
    /// The reservations that it lacks.
    pub create: Vec<IPReservation>,
}

impl Book {
    /// Chooses, and claims what is to be created: until [`Self::exists`] or [`Self::absent`] says what came of it, nobody else
    /// is given it.
    ///
    /// # Errors
    /// As of [`choose`]; nothing is claimed.
    pub fn plan(
        &mut self,
        cached: &[Arc<IPReservation>],
        asking: Asking<'_>,
        now: Instant,
    ) -> Result<Plan, Refusal> {
        self.prune(cached, now);
        let (mut held, mut shown, mut taken) = (Vec::new(), Vec::new(), Taken::new());
        for (reservation, state) in self.merged(cached) {
            let spec = &reservation.spec;
            if spec.provider != asking.provider {
                continue;
            }
            if spec.service.uid != asking.holder.uid {
                taken.insert(spec.address, describe(&spec.service, asking.holder));
            } else if state == State::Claimed {
                shown.push(spec.address);
            } else if belongs(spec, &asking) {
                held.push(spec.address);
            }
        }
        shown.extend(ingress(asking.service));
        let had = Had { held: &held, shown: &shown };
        let vips = choose(asking.service, asking.subnet, asking.pools, asking.families, had, &taken)?;
        let missing = vips.iter().map(|vip| vip.address.addr()).filter(|address| !held.contains(address));
        let create: Vec<IPReservation> = missing.map(|address| reservation(&asking, address)).collect();
        for reservation in &create {
            self.set(Arc::new(reservation.clone()), State::Claimed, now);
        }
        Ok(Plan { vips, create })
    }

    /// `listed` is all that there was at some time after `began`; `cached` is what the cache showed at `began`.
    pub fn listed(&mut self, cached: &[Arc<IPReservation>], listed: &[Arc<IPReservation>], began: Instant) {
        let present: BTreeSet<&str> = listed.iter().map(|listed| uid(listed)).collect();
        let gone = cached.iter().map(|shown| uid(shown)).filter(|shown| !present.contains(shown));
        self.freed.extend(gone.map(|uid| (uid.to_owned(), began)));
        self.entries.retain(|_, entry| {
            entry.state == State::Claimed || entry.since >= began || present.contains(uid(&entry.reservation))
        });
        for reservation in listed {
            let name = name_of(reservation);
            if !self.freed.contains_key(uid(reservation)) && !self.entries.contains_key(name) {
                self.set(Arc::clone(reservation), State::Exists, began);
            }
        }
    }

    /// `reservation` was read or written for the Service that holds it.
    pub fn exists(&mut self, reservation: IPReservation, now: Instant) {
        self.set(Arc::new(reservation), State::Exists, now);
    }

    /// `reservation`, which another Service wanted, was read.
    pub fn seen(&mut self, reservation: IPReservation, now: Instant) {
        self.set(Arc::new(reservation), State::Seen, now);
    }

    /// There is no reservation of this name, and none on its way.
    pub fn absent(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// `reservation` was deleted.
    pub fn freed(&mut self, reservation: &IPReservation, now: Instant) {
        self.absent(name_of(reservation));
        self.freed.insert(uid(reservation).to_owned(), now);
    }

    /// What the Service with this UID holds.
    pub fn held(&self, cached: &[Arc<IPReservation>], uid: &str) -> Vec<Arc<IPReservation>> {
        self.of(cached, uid)
            .filter(|(_, state)| *state == State::Exists)
            .map(|(found, _)| Arc::clone(found))
            .collect()
    }

    /// What the Service with this UID may hold: the same, and what was left without an answer, which has no UID.
    pub fn possibly_held(&self, cached: &[Arc<IPReservation>], uid: &str) -> Vec<Arc<IPReservation>> {
        self.of(cached, uid).map(|(found, _)| Arc::clone(found)).collect()
    }

    /// The names of reservations of this Service that the cache should show by now and does not: somebody may have deleted them before the
    /// cache ever saw them.
    pub fn doubtful(&mut self, cached: &[Arc<IPReservation>], uid: &str, now: Instant) -> Vec<String> {
        self.prune(cached, now);
        let old = |entry: &Entry| entry.state == State::Exists && now.duration_since(entry.since) > DOUBT;
        let own = self.entries.iter().filter(|(_, entry)| entry.reservation.spec.service.uid == uid);
        own.filter(|(_, entry)| old(entry)).map(|(name, _)| name.clone()).collect()
    }

    /// Every address that is not given to others.
    #[cfg(test)]
    pub fn possibly_taken(&self, cached: &[Arc<IPReservation>]) -> BTreeSet<IpAddr> {
        self.merged(cached).map(|(found, _)| found.spec.address).collect()
    }

    fn set(&mut self, reservation: Arc<IPReservation>, state: State, since: Instant) {
        self.entries.insert(name_of(&reservation).to_owned(), Entry { reservation, state, since });
    }

    /// Forgets what the cache knows itself.
    fn prune(&mut self, cached: &[Arc<IPReservation>], now: Instant) {
        let mut still_shown = BTreeSet::new();
        for shown in cached {
            if self.freed.contains_key(uid(shown)) {
                still_shown.insert(uid(shown));
            }
            let Some(entry) = self.entries.get(name_of(shown)) else { continue };
            if entry.state != State::Claimed && uid(&entry.reservation) == uid(shown) {
                self.absent(name_of(shown));
            }
        }
        let is_recent = |since: Instant| now.duration_since(since) < REMEMBERED;
        self.entries.retain(|_, entry| entry.state != State::Seen || is_recent(entry.since));
        self.freed.retain(|uid, since| is_recent(*since) || still_shown.contains(uid.as_str()));
    }

    fn of<'a>(
        &'a self,
        cached: &'a [Arc<IPReservation>],
        uid: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<IPReservation>, State)> {
        self.merged(cached).filter(move |(found, _)| found.spec.service.uid == uid)
    }

    /// The cache with the book over it. What was freed is not in it.
    fn merged<'a>(
        &'a self,
        cached: &'a [Arc<IPReservation>],
    ) -> impl Iterator<Item = (&'a Arc<IPReservation>, State)> {
        let is_visible = |shown: &&Arc<IPReservation>| {
            !self.freed.contains_key(uid(shown)) && !self.entries.contains_key(name_of(shown))
        };
        let written = self.entries.values().map(|entry| (&entry.reservation, entry.state));
        cached.iter().filter(is_visible).map(|shown| (shown, State::Exists)).chain(written)
    }
}

fn name_of(reservation: &IPReservation) -> &str {
    reservation.metadata.name.as_deref().unwrap_or_default()
}

fn uid(reservation: &IPReservation) -> &str {
    reservation.metadata.uid.as_deref().unwrap_or_default()
}

/// The addresses that the Service's status shows.
pub fn ingress(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

/// Whether a held address is meant by a Service that now names `asking.subnet`. One that another Subnet gave is not, unless it lies in
/// this one, too; the Service has asked for another by naming another Subnet.
fn belongs(spec: &IPReservationSpec, asking: &Asking<'_>) -> bool {
    let pool = asking.pools.get(Family::of(spec.address));
    spec.subnet == asking.subnet.name() || pool.is_some_and(|pool| pool.refuses(spec.address).is_none())
}

fn reservation(asking: &Asking<'_>, address: IpAddr) -> IPReservation {
    let spec = IPReservationSpec {
        address,
        provider: asking.provider.to_owned(),
        subnet: asking.subnet.name().to_owned(),
        service: asking.holder.clone(),
    };
    IPReservation::new(&name::reservation(asking.provider, address), spec)
}

/// Another holder as refusals to `asking` call it.
fn describe(holder: &Holder, asking: &Holder) -> String {
    let earlier = if (&holder.namespace, &holder.name) == (&asking.namespace, &asking.name) {
        "an earlier "
    } else {
        ""
    };
    format!("{earlier}Service {}/{}", holder.namespace, holder.name)
}
