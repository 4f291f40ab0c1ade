//! Which Services wait for a pass, for the metrics: the scheduler of the passes does not say.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use kube::runtime::reflector::{Lookup, ObjectRef};

use crate::admin::Metrics;

/// Services that something has happened to since their last pass began.
pub struct Waiting {
    metrics: Metrics,
    /// By namespace and name.
    services: Mutex<HashSet<(String, String)>>,
}

impl Waiting {
    /// None yet; `metrics` show how many.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, services: Mutex::default() }
    }

    /// It has to be looked at. Many times in a row is once.
    pub fn add<K: Lookup>(&self, service: &ObjectRef<K>) {
        self.change(|services| services.insert(key(service)));
    }

    /// A pass over it begins, or it is gone.
    pub fn remove<K: Lookup>(&self, service: &ObjectRef<K>) {
        self.change(|services| services.remove(&key(service)));
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<(String, String)>) -> bool) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut services) {
            self.metrics.queue_depth.set(services.len() as u64);
        }
    }
}

fn key<K: Lookup>(service: &ObjectRef<K>) -> (String, String) {
    (service.namespace.clone().unwrap_or_default(), service.name.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;

    #[test]
    fn each_service_waits_once() {
        let metrics = Metrics::default();
        let waiting = Waiting::new(metrics.clone());
        let service = |name: &str| ObjectRef::<Service>::new(name).within("default");
        for name in ["a", "b", "a"] {
            waiting.add(&service(name));
        }
        assert_eq!(metrics.queue_depth.get(), 2);
        waiting.remove(&service("a"));
        waiting.remove(&service("never-there"));
        assert_eq!(metrics.queue_depth.get(), 1);
        waiting.remove(&service("b").erase());
        assert_eq!(metrics.queue_depth.get(), 0);
    }
}
