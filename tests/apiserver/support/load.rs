//! Many Services at once, and what they cost the API server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event, watcher};
use sluice_controller::api::IPReservation;

use crate::servers::Access;
use crate::wait::{self, PATIENCE};
use crate::world::{Network, World, vips};

/// Requests that are made at a time.
pub const AT_ONCE: usize = 16;

/// What controllers have written, Leases apart.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// By the name of the Service that they were for.
    pub by_service: BTreeMap<String, usize>,
    /// What users were told.
    pub events: usize,
    /// How many addresses Subnets have left.
    pub subnet_status: usize,
    /// Everything else.
    pub others: Vec<Access>,
}

impl Writes {
    /// All of them.
    pub fn count(&self) -> usize {
        self.by_service.values().sum::<usize>() + self.events + self.subnet_status + self.others.len()
    }

    /// The most that one Service has taken.
    pub fn most(&self) -> usize {
        self.by_service.values().copied().max().unwrap_or_default()
    }
}

/// Reads what a world's controllers write, as the API server's audit log has it.
pub struct WriteLog<'w> {
    world: &'w World,
    user: String,
    read: u64,
    writes: Vec<Access>,
}

impl<'w> WriteLog<'w> {
    /// From the beginning.
    pub fn of(world: &'w World) -> Self {
        Self { world, user: world.controller_user(), read: 0, writes: Vec::new() }
    }

    /// Everything so far, Leases apart.
    pub fn writes(&mut self) -> &[Access] {
        let (asked, read) = self.world.servers.audited_from(&self.user, self.read).unwrap();
        self.writes.extend(asked.into_iter().filter(|asked| asked.is_write() && asked.resource != "leases"));
        self.read = read;
        &self.writes
    }

    /// Waits until nothing has been written for `time`, and returns everything so far.
    pub async fn at_rest(&mut self, time: Duration) -> &[Access] {
        let (mut count, mut last) = (self.writes().len(), Instant::now());
        wait::within(time + PATIENCE, "the controller stops writing", async || {
            let now = self.writes().len();
            if now > count {
                (count, last) = (now, Instant::now());
            }
            (last.elapsed() >= time).then_some(())
        })
        .await;
        &self.writes
    }
}

impl World {
    /// Makes `count` Services on `network`; `dual_stack`: of both families.
    pub async fn create_services(&self, network: &Network, count: usize, dual_stack: bool) {
        let create = async |number: usize| {
            let service =
                self.service(&format!("web-{number}")).on(network).port(80).port_to("UDP", 53, 5353);
            let service = if dual_stack { service.dual_stack() } else { service };
            service.create().await;
        };
        stream::iter(0..count).map(create).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Waits until `count` Services of the namespace show addresses, and tells `progress` how many do. Panics when nothing happens any
    /// more.
    pub async fn all_published(&self, count: usize, mut progress: impl FnMut(usize)) {
        let mut events = watcher(self.api::<Service>(), watcher::Config::default()).boxed();
        let mut published = HashSet::new();
        while published.len() < count {
            let event = tokio::time::timeout(PATIENCE, events.next()).await;
            let event = event.unwrap_or_else(|_| panic!("nothing happens: {} published", published.len()));
            let Some(Ok(Event::InitApply(service) | Event::Apply(service))) = event else { continue };
            if !vips(&service).is_empty() {
                published.insert(service.name_any());
                progress(published.len());
            }
        }
    }

    /// Says what `writes` were for.
    pub async fn sort_writes(&self, writes: &[Access]) -> Writes {
        let held = self.cluster_api::<IPReservation>().list(&ListParams::default()).await.unwrap().items;
        let holders: HashMap<String, &str> =
            held.iter().map(|held| (held.name_any(), held.spec.service.name.as_str())).collect();
        let mut sorted = Writes::default();
        for write in writes {
            match (write.resource.as_str(), service(write, &holders)) {
                ("events", _) => sorted.events += 1,
                ("subnets/status", _) => sorted.subnet_status += 1,
                (_, Some(service)) => *sorted.by_service.entry(service).or_default() += 1,
                (_, None) => sorted.others.push(write.clone()),
            }
        }
        sorted
    }
}

/// The Service that a write was for.
fn service(write: &Access, holders: &HashMap<String, &str>) -> Option<String> {
    let gateway = |name: &str| Some(name.strip_prefix("lb-svc-")?.to_owned());
    match write.resource.as_str() {
        "services" | "services/status" => Some(write.name.clone()),
        "configmaps" | "deployments" => gateway(&write.name),
        // `<deployment>-<template>-<pod>`
        "pods" => gateway(write.name.rsplitn(3, '-').last()?),
        "ipreservations" => Some((*holders.get(&write.name)?).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_write_has_its_service() {
        let holders = HashMap::from([("external.a.172.18.0.11".to_owned(), "web-7")]);
        for (resource, name, expected) in [
            ("services", "web-7", Some("web-7")),
            ("services/status", "web-7", Some("web-7")),
            ("configmaps", "lb-svc-web-7", Some("web-7")),
            ("deployments", "lb-svc-web-7", Some("web-7")),
            ("pods", "lb-svc-web-7-6d5f8c9b4-x2x8z", Some("web-7")),
            ("ipreservations", "external.a.172.18.0.11", Some("web-7")),
            ("ipreservations", "external.a.172.18.0.12", None),
            ("deployments", "web-7", None),
            ("nodes", "web-7", None),
        ] {
            let write = Access {
                group: String::new(),
                resource: resource.to_owned(),
                verb: "patch".to_owned(),
                namespace: "a".to_owned(),
                name: name.to_owned(),
                allowed: true,
                succeeded: true,
            };
            assert_eq!(service(&write, &holders).as_deref(), expected, "{resource} {name}");
        }
    }
}
