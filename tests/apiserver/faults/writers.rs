//! Others who write to the same objects.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};
use tokio::task::JoinHandle;

const QUIET: Duration = Duration::from_millis(500);
const CHILD: &str = "lb-svc-web";

async fn served(world: &World) {
    let network = world.external_network().await;
    world.service("web").on(&network).create().await;
    assert_eq!(world.published("web").await, ["172.18.0.11"]);
    world.proxy.quiet(QUIET).await;
    world.proxy.clear();
}

async fn write<K>(world: &World, name: &str, patch: &Value)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    world.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[test]
fn what_others_write_into_fields_of_their_own_stays_and_causes_no_write() {
    world::test(async |world| {
        let mut controller = world.controller().await;
        controller.start().await;
        served(world).await;
        let pod = world.gateway_pod("web").await.name_any();
        for round in 0..20 {
            let theirs = json!({ "metadata": {
                "annotations": { "example.com/round": round.to_string() },
                "labels": { "example.com/round": round.to_string() },
            }});
            write::<Service>(world, "web", &theirs).await;
            write::<Deployment>(world, CHILD, &theirs).await;
            write::<ConfigMap>(world, CHILD, &theirs).await;
            write::<Pod>(world, &pod, &theirs).await;
            let condition = json!({ "type": "example.com/Checked", "status": "True", "reason": "Round",
                "message": round.to_string(), "lastTransitionTime": "2026-01-01T00:00:00Z" });
            let status = json!({ "status": { "conditions": [condition] } });
            let services = world.api::<Service>();
            services.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        }
        world.proxy.quiet(QUIET).await;
        let writes: Vec<String> = world.proxy.writes().iter().map(ToString::to_string).collect();
        assert_eq!(writes, [""; 0]);
        let service = world.get_service("web").await;
        assert_eq!(service.annotations().get("example.com/round").map(String::as_str), Some("19"));
        assert_eq!(service.status.unwrap().conditions.unwrap()[0].message, "19");
        assert_eq!(world.gateway_pod("web").await.name_any(), pod);
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

/// Answers each change of an object by `undo`, where that says how.
fn opponent<K>(api: Api<K>, name: &str, undo: fn(&K) -> Option<Value>, status: bool) -> JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let name = name.to_owned();
    tokio::spawn(async move {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api.clone(), config).boxed();
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
            let Some(patch) = undo(&object) else { continue };
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            // That it meets a conflict does not stop it.
            let _ = if status {
                api.patch_status(&name, &params, &patch).await
            } else {
                api.patch(&name, &params, &patch).await
            };
        }
    })
}

#[test]
fn who_undoes_every_write_is_not_answered_without_end() {
    world::test(async |world| {
        let mut controller = world.controller().await;
        controller.start().await;
        served(world).await;

        let replicas = |deployment: &Deployment| {
            let is_ours = deployment.spec.as_ref().is_some_and(|spec| spec.replicas == Some(1));
            is_ours.then(|| json!({ "spec": { "replicas": 3 } }))
        };
        let ingress = |service: &Service| {
            let is_ours = world::vips(service) == ["172.18.0.11"];
            is_ours.then(|| json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } }))
        };
        let file = |map: &ConfigMap| {
            let is_ours = map.data.as_ref().is_some_and(|data| !data["gateway.yaml"].is_empty());
            is_ours.then(|| json!({ "data": { "gateway.yaml": "" } }))
        };
        let opponents = [
            opponent::<Deployment>(world.api(), CHILD, replicas, false),
            opponent::<Service>(world.api(), "web", ingress, true),
            opponent::<ConfigMap>(world.api(), CHILD, file, false),
        ];
        // A pass a second, of which each sets three objects right; and what was under way.
        let (window, most) = (Duration::from_secs(5), 5 * 3 + 3);
        eventually("it writes less and less", async || {
            world.proxy.clear();
            tokio::time::sleep(window).await;
            let writes = world.proxy.writes().len();
            println!("{writes} writes in {window:?}");
            assert!(writes > 0, "it gave up");
            (writes <= most).then_some(())
        })
        .await;

        for opponent in opponents {
            opponent.abort();
        }
        eventually("all is as it should be once they have gone", async || {
            let one = world.deployment("web").await?.spec?.replicas == Some(1);
            let map = world.api::<ConfigMap>().get_opt(CHILD).await.unwrap()?;
            let file = map.data?.get("gateway.yaml")?.contains("172.18.0.11");
            (one && file && world.vips("web").await == ["172.18.0.11"]).then_some(())
        })
        .await;
    });
}
