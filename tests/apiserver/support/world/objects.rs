//! Objects of any kind.

use std::fmt::Debug;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use sluice_controller::api::IPReservation;
use sluice_controller::events::EventReason;

use super::{Network, World};
use crate::{manifests, wait};

impl World {
    /// The objects of a kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects of a kind that has no namespaces. Other tests have some, too.
    pub fn cluster_api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Applies manifests as they are, like `kubectl apply --server-side`: an object without a namespace goes to `default`.
    pub async fn apply(&self, yaml: &str) -> Vec<DynamicObject> {
        manifests::apply(&self.client, yaml).await.unwrap()
    }

    /// Waits until an object of the test's namespace does not exist.
    pub async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        wait::eventually(&format!("{} {name} is gone", K::kind(&())), async || {
            api.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Deletes what [`Self::apply`] has made of the manifests.
    pub async fn delete(&self, yaml: &str) {
        manifests::delete(&self.client, yaml).await.unwrap();
    }

    /// The reservations of a network's addresses, lowest first; none where they are not defined.
    pub async fn reservations(&self, network: &Network) -> Vec<IPReservation> {
        let mut all = match self.cluster_api::<IPReservation>().list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Vec::new(),
            all => all.unwrap().items,
        };
        all.retain(|reservation| reservation.spec.provider == network.provider.to_string());
        all.sort_by_key(|reservation| reservation.spec.address);
        all
    }

    /// What Events say of a Service, as pairs of reason and text.
    pub async fn events(&self, service: &str) -> Vec<(String, String)> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let about = |event: &Event| {
            let object = event.regarding.as_ref();
            object.is_some_and(|o| o.kind.as_deref() == Some("Service") && o.name.as_deref() == Some(service))
        };
        let told = events.into_iter().filter(about);
        told.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }

    /// Waits for an Event of this reason on a Service whose text has all of `parts`, and returns the text.
    pub async fn event(&self, service: &str, reason: EventReason, parts: &[&str]) -> String {
        wait::eventually(&format!("an Event {} on {service} with {parts:?}", reason.as_str()), async || {
            let events = self.events(service).await;
            let is_it = |(found, note): &&(String, String)| {
                found == reason.as_str() && parts.iter().all(|part| note.contains(part))
            };
            events.iter().find(is_it).map(|(_, note)| note.clone())
        })
        .await
    }
}
