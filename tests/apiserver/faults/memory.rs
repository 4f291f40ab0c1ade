//! What others have in the cluster costs the controller little memory.

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_apiserver_tests::controller::Controller;
use sluice_apiserver_tests::kubelet::Conduct;
use sluice_apiserver_tests::world::{self, World};

/// Pods, ConfigMaps and Services of others.
const PODS: usize = 2000;
const MAPS: usize = 200;
const SERVICES: usize = 200;
/// What all of them may cost.
const MOST: f64 = 3.0 * 1024.0 * 1024.0;

async fn make<K>(world: &World, count: usize, object: impl Fn(usize) -> Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let api = world.api::<K>();
    let params = PostParams::default();
    let objects: Vec<K> = (0..count).map(|number| serde_json::from_value(object(number)).unwrap()).collect();
    let creations = objects.iter().map(|object| api.create(&params, object));
    let created: Vec<_> = stream::iter(creations).buffer_unordered(16).collect().await;
    for result in created {
        result.unwrap();
    }
}

/// Bytes of RAM right after a start.
async fn resident(controller: &mut Controller) -> f64 {
    controller.start().await;
    let bytes = controller.metric("process_resident_memory_bytes").await.unwrap();
    controller.terminate();
    bytes
}

#[test]
fn foreign_objects_cost_little_memory() {
    world::test(async |world| {
        let (_, mut controller) = world.serving("web").await;
        controller.terminate();
        let before = resident(&mut controller).await;

        world.kubelet.set("theirs", Conduct::Pending);
        let metadata = |number: usize| {
            let label = "x".repeat(60);
            json!({ "name": format!("theirs-{number}"), "labels": { "app": label },
                "annotations": { "note": "y".repeat(500) } })
        };
        make::<Pod>(world, PODS, |number| {
            json!({ "metadata": metadata(number), "spec": { "containers": [{ "name": "one", "image": "none" }] } })
        })
        .await;
        make::<ConfigMap>(
            world,
            MAPS,
            |number| json!({ "metadata": metadata(number), "data": { "file": "z".repeat(10_000) } }),
        )
        .await;
        make::<Service>(world, SERVICES, |number| {
            json!({ "metadata": metadata(number), "spec": { "clusterIP": "None", "ports": [{ "port": 80 }] } })
        })
        .await;
        let after = resident(&mut controller).await;
        println!("{:.1} MiB before, {:.1} MiB after", before / 1_048_576.0, after / 1_048_576.0);
        assert!(after - before < MOST, "{} bytes more", after - before);
    });
}
