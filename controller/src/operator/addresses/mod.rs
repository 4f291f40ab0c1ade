//! The addresses of Services: three backends behind one interface.

mod kube_ovn;
mod kube_ovn_vip;
mod memory;
mod orphans;
mod own;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::Store;
use tokio::sync::OnceCell;

use self::memory::Memory;
pub use self::orphans::Orphans;
use super::writer::{WriteError, Writer};
use crate::Refusal;
use crate::api::{Holder, IPReservation, NetworkConfig, Provider, Subnet};
pub use crate::decide::KubeOvnMode;
use crate::decide::{vip_addresses, vip_holder};
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

/// Gives, keeps and frees the addresses of Services.
pub struct Addresses {
    writer: Writer,
    reservations: Store<IPReservation>,
    scope: Option<String>,
    mode: KubeOvnMode,
    /// Never held across an await.
    book: Mutex<Book>,
    memory: Memory,
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
        Self {
            writer,
            reservations,
            scope,
            mode,
            book: Mutex::default(),
            memory: Memory::default(),
            loaded: OnceCell::new(),
        }
    }

    /// Sees to it that the Service holds an address of each family. Passes over different Services may run at once; those over one
    /// must not.
    ///
    /// # Errors
    /// A read or a write that failed. To call it again is safe: nothing is given twice.
    pub async fn ensure(&self, request: &Request<'_>) -> Result<Outcome, WriteError> {
        self.load().await?;
        let holder = Holder::of(request.service);
        let Some(_turn) = self.memory.turn(&holder.uid) else {
            let reason = "what the Service had before is being freed".to_owned();
            return Ok(Outcome::Waiting { reason, again: Duration::from_secs(1) });
        };
        if request.subnet.is_kube_ovns() {
            self.ensure_kube_ovn(request, &holder).await
        } else {
            self.ensure_own(request, &holder).await
        }
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
        let holder = Holder::of(service);
        self.free_own(&holder, |reservation| stays(reservation.spec.address)).await?;
        self.free_vips(&holder, |vip| vip_addresses(vip).into_iter().any(stays)).await
    }

    /// Frees all that the Service holds.
    ///
    /// # Errors
    /// A read or a write that failed.
    pub async fn release_all(&self, service: &Holder) -> Result<(), WriteError> {
        self.load().await?;
        self.free_own(service, |_| false).await?;
        self.free_vips(service, |_| false).await?;
        self.memory.answered(&service.uid);
        Ok(())
    }

    /// The reservations of the Service with this UID, as the cache shows them with our own recent writes over it.
    pub fn held(&self, uid: &str) -> Vec<Arc<IPReservation>> {
        self.book().held(&self.reservations.state(), uid)
    }

    /// Reads, once, what exists. The cache may be older than what a leader before us has written.
    async fn load(&self) -> Result<(), WriteError> {
        let load = async || {
            self.read_all().await?;
            for vip in self.read_vips().await? {
                if let (Some(holder), Some(name)) = (vip_holder(&vip), &vip.metadata.name) {
                    self.memory.has_vip(&holder.uid, name);
                }
            }
            Ok(())
        };
        self.loaded.get_or_try_init(load).await.copied()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
