//! What Services have left that went without us seeing it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::Addresses;
use crate::api::{Holder, IPReservation, Vip, annotation};
use crate::decide::{carried, vip_addresses, vip_holder};
use crate::desired::MANAGED_BY;
use crate::operator::FINALIZER;
use crate::operator::writer::WriteError;
use crate::select::{Selection, select};

/// Services in one answer of the API server, of which only what is ours is kept.
const PAGE: u32 = 500;

/// What became of addresses whose Services are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Freed.
    pub freed: usize,
    /// Kept, since a pod still has them.
    pub carried: usize,
}

/// What one Service holds.
#[derive(Default)]
struct Holdings {
    reservations: Vec<Arc<IPReservation>>,
    vips: Vec<Vip>,
}

impl Addresses {
    /// Frees what Services hold that are gone, or that are not ours any more, once their pods are gone.
    ///
    /// # Errors
    /// A read or a write that failed.
    pub async fn collect_orphans(&self) -> Result<Orphans, WriteError> {
        self.load().await?;
        // Before the Services are read: whoever holds something now existed before, so that a new one is not taken for gone.
        let mut holdings = self.holdings().await?;
        if holdings.is_empty() {
            return Ok(Orphans::default());
        }
        let holders = self.holders().await?;
        holdings.retain(|holder, _| !holders.contains(&holder.uid));
        let mut orphans = Orphans::default();
        for (holder, holdings) in &holdings {
            self.collect(holder, holdings, &mut orphans).await?;
        }
        Ok(orphans)
    }

    /// Everything that is held by Services of our namespaces.
    async fn holdings(&self) -> Result<BTreeMap<Holder, Holdings>, WriteError> {
        let mut holdings: BTreeMap<Holder, Holdings> = BTreeMap::new();
        let is_mine = |holder: &Holder| self.scope.as_ref().is_none_or(|scope| *scope == holder.namespace);
        for reservation in self.read_all().await? {
            let holder = reservation.spec.service.clone();
            if is_mine(&holder) {
                holdings.entry(holder).or_default().reservations.push(reservation);
            }
        }
        for vip in self.read_vips().await? {
            if let Some(holder) = vip_holder(&vip).filter(is_mine) {
                holdings.entry(holder).or_default().vips.push(vip);
            }
        }
        Ok(holdings)
    }

    /// The UIDs of the Services that may hold something.
    async fn holders(&self) -> Result<BTreeSet<String>, WriteError> {
        let api = self.services();
        let mut holders = BTreeSet::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&params).await?;
            holders.extend(page.items.iter().filter(|service| may_hold(service)).filter_map(Service::uid));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(holders),
            }
        }
    }

    async fn collect(
        &self,
        holder: &Holder,
        holdings: &Holdings,
        orphans: &mut Orphans,
    ) -> Result<(), WriteError> {
        // A pass that gives an address to a Service that has just become ours again comes before or after this.
        let Some(_turn) = self.memory.turn(&holder.uid) else { return Ok(()) };
        let api: Api<Service> = Api::namespaced(self.writer.client().clone(), &holder.namespace);
        let live = api.get_opt(&holder.name).await?.filter(|live| live.uid().as_ref() == Some(&holder.uid));
        if live.as_ref().is_some_and(may_hold) {
            return Ok(());
        }
        let carried = self.carried_by_pods_of(holder).await?;
        for reservation in &holdings.reservations {
            if carried.contains(&reservation.spec.address) {
                orphans.carried += 1;
            } else {
                self.free(reservation, holder).await?;
                orphans.freed += 1;
            }
        }
        for vip in &holdings.vips {
            if vip_addresses(vip).iter().any(|address| carried.contains(address)) {
                orphans.carried += 1;
            } else {
                self.free_vip(holder, vip).await?;
                orphans.freed += 1;
            }
        }
        Ok(())
    }

    /// The addresses in the annotations of gateway pods of a Service that is gone, as the API server has them now.
    async fn carried_by_pods_of(&self, holder: &Holder) -> Result<Vec<IpAddr>, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.writer.client().clone(), &holder.namespace);
        let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let pods = api.list(&ours).await?.items;
        let is_of = |pod: &&Pod| pod.annotations().get(annotation::SERVICE_UID) == Some(&holder.uid);
        Ok(pods.iter().filter(is_of).flat_map(carried).collect())
    }

    fn services(&self) -> Api<Service> {
        let client = self.writer.client().clone();
        match &self.scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

/// Whether a Service that exists may hold addresses: it is ours, or asks to be, or its way out sees to them.
fn may_hold(service: &Service) -> bool {
    service.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
        || !matches!(select(service), Ok(Selection::NotOurs(_)))
}
