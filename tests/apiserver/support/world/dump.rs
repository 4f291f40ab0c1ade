//! What is there, for a test that fails.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_controller::api::{IPReservation, Subnet};

use super::World;
use crate::process;

/// Lines of each log, and requests.
const LINES: usize = 60;

impl World {
    /// Prints the namespace's objects, the last requests and the controllers' logs.
    pub async fn dump(&self) {
        self.dump_kind::<Service>().await;
        self.dump_kind::<Deployment>().await;
        self.dump_kind::<ConfigMap>().await;
        self.dump_kind::<Pod>().await;
        let is_ours = |provider: &str| provider.ends_with(&format!(".{}", self.namespace));
        dump_all(&self.cluster_api::<Subnet>(), |subnet| is_ours(&subnet.spec.provider)).await;
        dump_all(&self.cluster_api::<IPReservation>(), |held| is_ours(&held.spec.provider)).await;
        self.dump_events().await;
        let exchanges = self.proxy.exchanges();
        let omitted = exchanges.len().saturating_sub(LINES);
        eprintln!("---- the controllers' requests ({omitted} earlier ones left out)");
        for exchange in &exchanges[omitted..] {
            eprintln!("{exchange}");
        }
        for log in self.controller_logs() {
            eprintln!("---- {}\n{}", log.display(), process::tail(&log, LINES));
        }
    }

    async fn dump_kind<K>(&self)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + Serialize + DeserializeOwned,
    {
        dump_all(&self.api::<K>(), |_| true).await;
    }

    async fn dump_events(&self) {
        eprintln!("---- Events");
        let Ok(events) = self.api::<Event>().list(&ListParams::default()).await else { return };
        for event in events {
            let object = event.regarding.unwrap_or_default();
            let [kind, name, reason, note] =
                [object.kind, object.name, event.reason, event.note].map(Option::unwrap_or_default);
            eprintln!("{kind} {name}: {reason}: {note}");
        }
    }
}

/// Prints objects in the form of manifests.
async fn dump_all<K>(api: &Api<K>, wanted: impl Fn(&K) -> bool)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let objects = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // For people who look for a fault: what cannot be read is only said.
        Err(error) => return eprintln!("---- {}: {error}", K::kind(&())),
    };
    for mut object in objects.into_iter().filter(wanted) {
        object.meta_mut().managed_fields = None;
        let name = object.meta().name.clone().unwrap_or_default();
        let text = serde_saphyr::to_string(&object).unwrap_or_else(|error| error.to_string());
        eprintln!("---- {} {name}\n{text}", K::kind(&()));
    }
}
