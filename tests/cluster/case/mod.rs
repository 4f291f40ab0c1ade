//! What a case starts from: a namespace, a piece of the external network, and the client in it.

mod ask;
mod objects;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use serde_json::json;
use sluice_cluster::Cluster;

use crate::site;
pub use ask::{CAUGHT_UP, PATIENCE, within};

/// Held by each case: alone by one that takes the whole machine, so that the others' times are not its doing.
static MACHINE: RwLock<()> = RwLock::new(());

/// A case's hold on [`MACHINE`].
enum Hold {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// One case.
pub struct Case<'c> {
    /// The cluster, which it may share with others.
    pub cluster: &'c Cluster,
    /// Its own namespace; its Subnet is called the same.
    pub namespace: String,
    /// Its piece of the external network is `172.30.<number>.0/24` and `fd00:172:30:<number>::/64`.
    number: u8,
    /// Its end leaves everything as it is.
    stays: bool,
    _hold: Hold,
}

/// A hold for a case beside which others run.
fn hold() -> Hold {
    Hold::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }
}

impl Case<'static> {
    /// Makes the namespace, with the network `external` and its Subnet; the client has an address in it, the last but one.
    pub fn new(name: &str) -> Self {
        Self::without_network(name).with_network()
    }

    /// The same, while no other case runs.
    pub fn alone(name: &str) -> Self {
        let _guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::start(site::shared(), name, Hold::Alone { _guard }).with_network()
    }

    /// The same without network and Subnet.
    pub fn without_network(name: &str) -> Self {
        let hold = hold();
        Self::start(site::shared(), name, hold)
    }
}

impl<'c> Case<'c> {
    /// As [`Case::new`], on a cluster of its own.
    pub fn on(cluster: &'c Cluster, name: &str) -> Self {
        Self::without_network_on(cluster, name).with_network()
    }

    /// As [`Case::without_network`], on a cluster of its own.
    pub fn without_network_on(cluster: &'c Cluster, name: &str) -> Self {
        Self::start(cluster, name, hold())
    }

    /// Lets go of the cluster and leaves everything in it as it is, for [`Self::rejoin`].
    pub fn part(mut self) -> (String, u8) {
        self.stays = true;
        (self.namespace.clone(), self.number)
    }

    /// The case that was left by [`Self::part`].
    pub fn rejoin(cluster: &'c Cluster, (namespace, number): (String, u8)) -> Self {
        Self { cluster, namespace, number, stays: false, _hold: hold() }
    }

    fn with_network(self) -> Self {
        self.apply(&self.network("external", &json!({})));
        self.apply(&self.subnet("external"));
        self
    }

    fn start(cluster: &'c Cluster, name: &str, _hold: Hold) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let case = Self { cluster, namespace: name.to_owned(), number, stays: false, _hold };
        case.cluster.kubectl(&["create", "namespace", name]).unwrap();
        let number = case.number;
        cluster
            .client
            .ip(&format!(
                "addr add 172.30.{number}.254/24 dev eth0
                 addr add fd00:172:30:{number}::fe/64 dev eth0 nodad"
            ))
            .unwrap();
        case
    }
}

impl Drop for Case<'_> {
    /// If the case has failed, what there is is printed. The cluster outlives it: what others need not wait for goes.
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let say = |arguments: &[&str]| {
            eprintln!("$ kubectl {}", arguments.join(" "));
            match self.try_kubectl(arguments) {
                Ok(text) => eprintln!("{text}"),
                Err(error) => eprintln!("{error:#}"),
            }
        };
        if thread::panicking() {
            say(&["get", "all,configmaps", "-o", "wide"]);
            say(&["get", "events", "--sort-by=.lastTimestamp"]);
            say(&["describe", "services"]);
            say(&["logs", "--selector=app.kubernetes.io/managed-by=sluice-controller", "--tail=20"]);
            say(&["--namespace=sluice-system", "get", "pods", "-o", "wide"]);
            say(&[
                "--namespace=sluice-system",
                "logs",
                "--selector=app.kubernetes.io/name=sluice-controller",
                "--tail=40",
            ]);
        }
        let _goes_with_the_cluster =
            self.try_kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
