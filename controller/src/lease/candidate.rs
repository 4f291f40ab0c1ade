//! One candidate's judgement of the Lease. Pure: times are arguments.
//!
//! The times in a Lease come from the clock of whoever wrote them. They are compared with each other for change alone; how long
//! nothing has changed is measured by the own monotonic clock. So clocks may differ between the candidates by any amount.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Timing;

/// A candidate and what it has seen.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
}

/// The Lease as last seen.
#[derive(Clone, Debug)]
struct Seen {
    spec: LeaseSpec,
    /// When this content was first seen.
    since: Instant,
}

impl Candidate {
    /// `identity` must be no other candidate's, dead ones included.
    pub const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None }
    }

    /// Its name in the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Who holds the Lease as it was last seen; `None`: nobody.
    pub fn holder(&self) -> Option<&str> {
        holder(&self.seen.as_ref()?.spec)
    }

    /// Whether this candidate holds the Lease as it was last seen.
    pub fn leads(&self) -> bool {
        self.holder() == Some(&self.identity)
    }

    /// Notes the Lease as the API server has it; `now` must not be before the answer came.
    pub fn see(&mut self, spec: &LeaseSpec, now: Instant) {
        if self.seen.as_ref().is_none_or(|seen| seen.spec != *spec) {
            self.seen = Some(Seen { spec: spec.clone(), since: now });
        }
    }

    /// What to write into the Lease to hold it, given that it is still what was last seen (`live`: it exists at all).
    /// `None`: somebody else holds it. `clock` is the time of day.
    pub fn claim(&self, live: bool, now: Instant, clock: Timestamp) -> Option<LeaseSpec> {
        // A Lease that somebody deleted has a holder who does not know yet.
        let held = |seen: &Seen| holder(&seen.spec).is_some_and(|holder| holder != self.identity);
        if self.seen.as_ref().is_some_and(|seen| held(seen) && now < seen.since + self.lasts(&seen.spec)) {
            return None;
        }
        let before = self.seen.as_ref().filter(|_| live).map(|seen| &seen.spec);
        let mine = before.filter(|spec| holder(spec) == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        // Each renewal is later than the one before, whatever the clock does: one that repeats an earlier time is none to those who
        // saw that one and missed what was between.
        let last = mine.and_then(|spec| spec.renew_time.as_ref());
        let least = last.and_then(|last| last.0.checked_add(SignedDuration::from_micros(1)).ok());
        let renewed = MicroTime(least.map_or(clock, |least| clock.max(least)));
        Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.timing.duration_seconds()),
            acquire_time: mine.and_then(|spec| spec.acquire_time.clone()).or_else(|| Some(renewed.clone())),
            renew_time: Some(renewed),
            lease_transitions: Some(if mine.is_none() && live { transitions + 1 } else { transitions }),
            ..LeaseSpec::default()
        })
    }

    /// What to write into the Lease to give it up; `None`: it is not ours.
    pub fn release(&self, clock: Timestamp) -> Option<LeaseSpec> {
        let seen = self.seen.as_ref().filter(|seen| holder(&seen.spec) == Some(&self.identity))?;
        Some(LeaseSpec {
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(clock)),
            acquire_time: Some(MicroTime(clock)),
            lease_transitions: seen.spec.lease_transitions,
            ..LeaseSpec::default()
        })
    }

    /// How long the Lease lasts from the last change: what its holder promised to those who wait.
    fn lasts(&self, spec: &LeaseSpec) -> Duration {
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.filter(|seconds| *seconds > 0).map_or(self.timing.duration(), Duration::from_secs)
    }
}

/// An empty name is nobody's: so a Lease is given up.
fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}
