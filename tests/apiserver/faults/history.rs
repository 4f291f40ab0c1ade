//! What happened to the reservations of a network, each step of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{Network, World};
use sluice_controller::api::IPReservation;
use tokio::task::JoinHandle;

/// Watches until it is dropped.
pub struct History {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By UID: what there is now.
    pub now: BTreeMap<String, IpAddr>,
    /// Every reservation that there was, by UID.
    pub ever: BTreeMap<String, IpAddr>,
    /// The most addresses of one family that there were at once.
    pub most: usize,
    listed: bool,
}

impl Seen {
    fn appeared(&mut self, reservation: &IPReservation) {
        let (uid, address) = (reservation.uid().unwrap(), reservation.spec.address);
        self.now.insert(uid.clone(), address);
        self.ever.insert(uid, address);
        let of_family = self.now.values().filter(|other| other.is_ipv4() == address.is_ipv4()).count();
        self.most = self.most.max(of_family);
    }

    /// The addresses that there were.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.ever.values().copied().collect()
    }
}

impl History {
    /// Begins with what is reserved of `network` now.
    pub async fn of(world: &World, network: &Network) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let provider = network.provider.to_string();
        let mut events = watcher(world.cluster_api::<IPReservation>(), watcher::Config::default()).boxed();
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let mut seen = shared.lock().unwrap();
                match event {
                    // A second list would hide what was between: no test of this stops the API server.
                    Ok(Event::Init) => assert!(!seen.listed, "the watch was interrupted"),
                    Ok(Event::InitApply(held) | Event::Apply(held)) if held.spec.provider == provider => {
                        seen.appeared(&held)
                    }
                    Ok(Event::Delete(held)) => drop(seen.now.remove(&held.uid().unwrap())),
                    Ok(Event::InitDone) => seen.listed = true,
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let history = Self { seen, task };
        eventually("the reservations are listed", async || history.seen.lock().unwrap().listed.then_some(()))
            .await;
        history
    }

    /// What was seen, once it has caught up with what `network` has now.
    pub async fn caught_up(&self, world: &World, network: &Network) -> Seen {
        let live = world.reservations(network).await;
        let live: BTreeSet<String> = live.iter().map(|reservation| reservation.uid().unwrap()).collect();
        eventually("the history of the reservations is complete", async || {
            assert!(!self.task.is_finished(), "the watch has ended");
            let seen = self.seen.lock().unwrap().clone();
            seen.now.keys().eq(&live).then_some(seen)
        })
        .await
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}
