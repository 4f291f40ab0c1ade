//! What every pass needs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use tokio::sync::watch;

use super::Options;
use super::addresses::Addresses;
use super::caches::Caches;
use super::events::Events;
use super::pace::Pace;
use super::rollouts::Rollouts;
use super::writer::Writer;
use crate::api::namespaced_name;

/// Shared by all passes. What it remembers of Services is a matter of time only: losing it at a restart changes no decision, but when it
/// is made.
pub struct Context {
    /// How to behave.
    pub options: Options,
    /// What the cluster looks like.
    pub caches: Caches,
    /// Makes the changes.
    pub writer: Writer,
    /// Tells people.
    pub events: Events,
    /// Gives the addresses.
    pub addresses: Addresses,
    /// Lets pods be replaced, a few at a time.
    pub rollouts: Rollouts,
    /// Why Services are left to Kube-OVN, if they are.
    pub lb_svc: watch::Receiver<Option<String>>,
    /// By the Service's UID.
    memory: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of one Service.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    unserved_since: Option<Instant>,
    failures: u32,
    pace: Pace,
}

impl Context {
    /// Nothing is remembered.
    pub fn new(
        options: Options,
        caches: Caches,
        writer: Writer,
        events: Events,
        addresses: Addresses,
        lb_svc: watch::Receiver<Option<String>>,
    ) -> Self {
        let rollouts = Rollouts::new(options.max_restarts);
        Self { options, caches, writer, events, addresses, rollouts, lb_svc, memory: Mutex::default() }
    }

    /// Since when no gateway pod of `service` has served its addresses, as far as this process has seen; `None`: one does, as
    /// `served` says.
    pub fn unserved_since(&self, service: &Service, served: bool) -> Option<Instant> {
        let mut memory = self.memory();
        let since = &mut memory.entry(uid(service)).or_default().unserved_since;
        *since = if served { None } else { Some(since.unwrap_or_else(Instant::now)) };
        *since
    }

    /// Counts a pass; or says in what time there may be one.
    pub fn pace(&self, service: &Service) -> Result<(), Duration> {
        self.memory().entry(uid(service)).or_default().pace.start(Instant::now())
    }

    /// A pass has ended without failure.
    pub fn succeeded(&self, service: &Service) {
        if let Some(memory) = self.memory().get_mut(&uid(service)) {
            memory.failures = 0;
        }
    }

    /// A pass has failed: how many did in a row.
    pub fn failed(&self, service: &Service) -> u32 {
        let mut memory = self.memory();
        let failures = &mut memory.entry(uid(service)).or_default().failures;
        *failures = failures.saturating_add(1);
        *failures
    }

    /// Forgets a Service that is gone, or no longer ours.
    pub fn forget(&self, service: &Service) {
        let uid = uid(service);
        self.memory().remove(&uid);
        self.writer.metrics().service(&namespaced_name(&service.metadata), None);
        self.rollouts.ended(&uid);
        self.events.forget(&uid);
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uid(service: &Service) -> String {
    service.uid().unwrap_or_default()
}
