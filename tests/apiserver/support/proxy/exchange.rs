//! What was asked and answered.

use std::sync::Mutex;
use std::time::Instant;

use super::Route;

/// One request and the code of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What was asked.
    pub route: Route,
    /// The HTTP status.
    pub code: u16,
    /// The proxy answered in the server's place.
    pub by_proxy: bool,
}

impl Exchange {
    /// Whether it changed the cluster's state, apart from Leases, Events and what Subnets say of their use: that follows the reservations of
    /// all tests.
    pub fn is_accepted_write(&self) -> bool {
        self.route.is_write()
            && (200..300).contains(&self.code)
            && !matches!(self.route.resource.as_str(), "leases" | "events" | "subnets/status")
    }
}

impl std::fmt::Display for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Route { verb, resource, namespace, name, .. } = &self.route;
        let by = if self.by_proxy { " (by the proxy)" } else { "" };
        write!(f, "{} {verb} {resource} {namespace}/{name}{by}", self.code)
    }
}

/// All exchanges.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    exchanges: Vec<Exchange>,
    last_write: Option<Instant>,
}

impl Journal {
    /// Adds one.
    pub fn note(&self, exchange: Exchange) {
        let mut entries = self.0.lock().unwrap();
        if exchange.is_accepted_write() {
            entries.last_write = Some(Instant::now());
        }
        entries.exchanges.push(exchange);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Exchange> {
        self.0.lock().unwrap().exchanges.clone()
    }

    /// When the last write was answered.
    pub fn last_write(&self) -> Option<Instant> {
        self.0.lock().unwrap().last_write
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0.lock().unwrap().exchanges.clear();
    }
}
