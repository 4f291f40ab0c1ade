//! The addresses of Services: three backends behind one interface.

mod own;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::Store;
use tokio::sync::OnceCell;

use super::writer::{WriteError, Writer};
use crate::Refusal;
use crate::api::{Holder, IPReservation, NetworkConfig, Provider, Subnet};
pub use crate::desired::AddressesBy;
use crate::ipam::book::Book;
use crate::ipam::{Choice, Family, Pools};

/// What a Service needs addresses for, as this pass sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The Service, with its UID.
    pub service: &'a Service,
    /// Its network.
    pub provider: &'a Provider,
    /// What the network's NetworkAttachmentDefinition says.
    pub network: &'a NetworkConfig,
    /// The Subnet that gives the addresses.
    pub subnet: &'a Subnet,
    /// Its pools.
    pub pools: &'a Pools,
    /// The families that are served, in the order of the Service.
    pub families: &'a [Family],
    /// The Service's gateway pods, dying ones included.
    pub pods: &'a [Arc<Pod>],
    /// Its Deployment.
    pub deployment: Option<&'a Deployment>,
}

/// What came of a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The Service holds these addresses.
    Given {
        /// One for each family, in the order of the request.
        vips: Vec<Choice>,
        /// Who tells the pod.
        by: AddressesBy,
        /// Whether the pod template has to name the addresses.
        template_addresses: bool,
        /// Whether they were given in this pass.
        fresh: bool,
    },
    /// The workload has to exist before the address can, since Kube-OVN allocates for the pod.
    NeedsPod {
        /// What the pod template has to ask for; empty: nothing.
        requested: Vec<IpAddr>,
        /// When to look again.
        again: Duration,
    },
    /// Somebody else's answer is missing.
    Waiting {
        /// Whose, and what can be done about it.
        reason: String,
        /// When to look again.
        again: Duration,
    },
    /// The Service cannot have an address. What it holds it keeps.
    Refused(Refusal),
}

/// Which way Kube-OVN is asked for addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KubeOvnMode {
    /// As the network and the pods show that this Kube-OVN works.
    #[default]
    Auto,
    /// By the annotations of the gateway pods.
    Pod,
    /// By `Vip` objects.
    Vip,
}

/// Gives, keeps and frees the addresses of Services.
pub struct Addresses {
    writer: Writer,
    reservations: Store<IPReservation>,
    #[expect(dead_code, reason = "the orphans' sweep and Kube-OVN's backends are next")]
    scope: Option<String>,
    #[expect(dead_code, reason = "the orphans' sweep and Kube-OVN's backends are next")]
    mode: KubeOvnMode,
    /// Never held across an await.
    book: Mutex<Book>,
    /// Whether the book has what the API server had when this process began to write.
    loaded: OnceCell<()>,
}

impl Addresses {
    /// Writes by `writer`, knows what `reservations` show, sweeps the namespace `scope` alone (`None`: all), and asks Kube-OVN
    /// by `mode`.
    pub fn new(
        writer: Writer,
        reservations: Store<IPReservation>,
        scope: Option<String>,
        mode: KubeOvnMode,
    ) -> Self {
        Self { writer, reservations, scope, mode, book: Mutex::default(), loaded: OnceCell::new() }
    }

    /// Sees to it that the Service holds an address of each family. Passes over different Services may run at once; those over one
    /// must not.
    ///
    /// # Errors
    /// A read or a write that failed. To call it again is safe: nothing is given twice.
    pub async fn ensure(&self, request: &Request<'_>) -> Result<Outcome, WriteError> {
        self.load().await?;
        self.ensure_own(request, &Holder::of(request.service)).await
    }

    /// Frees what the Service holds beyond `keep`, except addresses in `carried` (those that a pod, dying ones included, still
    /// carries).
    ///
    /// # Errors
    /// A read or a write that failed.
    pub async fn release_others(
        &self,
        service: &Service,
        keep: &[IpAddr],
        carried: &[IpAddr],
    ) -> Result<(), WriteError> {
        self.load().await?;
        let stays = |address| keep.contains(&address) || carried.contains(&address);
        self.free_own(&Holder::of(service), |reservation| stays(reservation.spec.address)).await
    }

    /// Frees all that the Service holds.
    ///
    /// # Errors
    /// A read or a write that failed.
    pub async fn release_all(&self, service: &Holder) -> Result<(), WriteError> {
        self.load().await?;
        self.free_own(service, |_| false).await
    }

    /// The reservations of the Service with this UID, as the cache shows them with our own recent writes over it.
    pub fn held(&self, uid: &str) -> Vec<Arc<IPReservation>> {
        self.book().held(&self.reservations.state(), uid)
    }

    /// Frees what Services hold that are gone, or that are not ours any more, once their pods are gone. Returns how many.
    ///
    /// # Errors
    /// A read or a write that failed.
    #[expect(clippy::unused_async, reason = "the sweep is next")]
    pub async fn collect_orphans(&self) -> Result<usize, WriteError> {
        Ok(0)
    }

    /// Reads, once, what exists. The cache may be older than what a leader before us has written.
    async fn load(&self) -> Result<(), WriteError> {
        let load = async || {
            let cached = self.reservations.state();
            let listed = self.read_all().await?;
            self.book().load(&cached, listed, Instant::now());
            Ok(())
        };
        self.loaded.get_or_try_init(load).await.copied()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
