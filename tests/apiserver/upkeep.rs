//! Other people's hands on a Service's objects.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, World, annotate};
use sluice_controller::events::EventReason;

const NAME: &str = "lb-svc-web";

async fn edit<K>(world: &World, name: &str, patch: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api = world.api::<K>();
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Waits until a field of the Deployment is as it was.
async fn comes_back(world: &World, pointer: &str, expected: Value) {
    wait::eventually(&format!("{pointer} is {expected} again"), async || {
        let deployment = serde_json::to_value(world.deployment("web").await?).unwrap();
        (deployment.pointer(pointer).unwrap_or(&Value::Null) == &expected).then_some(())
    })
    .await;
}

#[test]
fn edits_of_the_deployment_come_back() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        let image = "/spec/template/spec/containers/0/image";
        let before = serde_json::to_value(world.deployment("web").await).unwrap();
        let before = |pointer: &str| before.pointer(pointer).unwrap_or(&Value::Null).clone();

        edit::<Deployment>(
            world,
            NAME,
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
        )
        .await;
        comes_back(world, "/spec/strategy", json!({"type": "Recreate"})).await;
        // Of two kinds of probe an API server takes neither.
        let probe = json!({"name": "lb-svc", "readinessProbe": {"exec": null, "tcpSocket": {"port": 80}}});
        let probe = json!({"spec": {"template": {"spec": {"containers": [probe]}}}});
        let api = world.api::<Deployment>();
        api.patch(NAME, &PatchParams::default(), &Patch::Strategic(probe)).await.unwrap();
        let readiness = "/spec/template/spec/containers/0/readinessProbe";
        comes_back(world, readiness, before(readiness)).await;
        let label = "app.kubernetes.io/managed-by";
        edit::<Deployment>(world, NAME, json!({"metadata": {"labels": {label: null}}})).await;
        comes_back(world, "/metadata/labels/app.kubernetes.io~1managed-by", json!("sluice-controller")).await;
        let container = json!({"name": "lb-svc", "image": "example.com/other"});
        edit::<Deployment>(world, NAME, json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
            .await;
        comes_back(world, image, before(image)).await;
        comes_back(
            world,
            "/spec/template/spec/containers/0/securityContext",
            before("/spec/template/spec/containers/0/securityContext"),
        )
        .await;

        let uid = world.deployment("web").await.unwrap().uid();
        world.api::<Deployment>().delete(NAME, &DeleteParams::foreground()).await.unwrap();
        wait::eventually("there is another Deployment", async || {
            world.deployment("web").await.filter(|deployment| deployment.uid() != uid)
        })
        .await;
        world.gateway_pod("web").await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn a_scaled_deployment_is_one_gateway_again() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        for (replicas, why) in [(2, "both claim the address"), (0, "nothing would serve")] {
            let scale = json!({"spec": {"replicas": replicas}});
            let api = world.api::<Deployment>();
            api.patch_scale(NAME, &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
            let said = format!("scaled to {replicas}");
            world.event("web", EventReason::ReplicasReset, &[NAME, &said, why]).await;
            comes_back(world, "/spec/replicas", json!(1)).await;
            world.gateway_pod("web").await;
        }
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn edits_of_the_file_and_of_the_pods_annotations_come_back() {
    world::test(async |world| {
        let (network, _controller) = world.serving("web").await;
        let pod = world.gateway_pod("web").await;
        let file = world.gateway_file("web").await;
        let is_back = async || {
            wait::eventually("the file is as it was", async || {
                (world.gateway_file("web").await == file).then_some(())
            })
            .await;
        };
        edit::<ConfigMap>(world, NAME, json!({"data": {"gateway.yaml": "version: 1\nservices: []\n"}})).await;
        is_back().await;
        edit::<ConfigMap>(world, NAME, json!({"data": null})).await;
        is_back().await;
        world.api::<ConfigMap>().delete(NAME, &DeleteParams::default()).await.unwrap();
        is_back().await;

        let of_provider = |name: &str| format!("{}.kubernetes.io/{name}", network.provider);
        let keys = ["ip_address", "cidr", "gateway", "allocated"].map(of_provider);
        for key in keys.iter().map(String::as_str).chain(["sluice.io/config-hash"]) {
            let before = World::annotation(&pod, key);
            for value in [Value::Null, json!("172.18.0.99")] {
                edit::<k8s_openapi::api::core::v1::Pod>(world, &pod.name_any(), annotate(key, value)).await;
                wait::eventually(&format!("{key} is {before} again"), async || {
                    (World::annotation(&world.gateway_pod("web").await, key) == before).then_some(())
                })
                .await;
            }
        }
        assert_eq!(world.gateway_pod("web").await.uid(), pod.uid());
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn foreign_objects_are_left_as_they_are_until_they_go() {
    world::test(async |world| {
        let network = world.external_network().await;
        let labels = json!({"app": "mine"});
        let foreign: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "lb-svc-first"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "c", "image": "example.com/mine"}]},
                },
            },
        }))
        .unwrap();
        // It looks like ours, and is of a Service that was before.
        let lookalike: ConfigMap = serde_json::from_value(json!({
            "metadata": {
                "name": "lb-svc-second",
                "labels": {"app.kubernetes.io/managed-by": "sluice-controller", "app": "lb-svc-second"},
            },
            "data": {"gateway.yaml": "mine"},
        }))
        .unwrap();
        world.api().create(&PostParams::default(), &foreign).await.unwrap();
        let lookalike = world.api().create(&PostParams::default(), &lookalike).await.unwrap();
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("first").on(&network).create().await;
        world.service("second").on(&network).create().await;
        for (service, kind) in [("first", "Deployment"), ("second", "ConfigMap")] {
            let said = format!("{kind} lb-svc-{service} does not belong");
            world.event(service, EventReason::ForeignObject, &[&said, "delete it"]).await;
            assert!(world.vips(service).await.is_empty());
        }
        world.proxy.quiet(Duration::from_secs(1)).await;
        let live = world.deployment("first").await.unwrap();
        let writers: Vec<_> =
            live.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
        assert!(!writers.contains(&"sluice-controller"), "{writers:?}");
        assert_eq!(live.metadata.generation, Some(1));
        let map = world.api::<ConfigMap>().get("lb-svc-second").await.unwrap();
        assert_eq!(map.resource_version(), lookalike.resource_version());

        // A Service that goes takes nothing with it that is not its own.
        world.service("third").on(&network).create().await;
        world.published("third").await;
        world.api::<Deployment>().delete("lb-svc-first", &DeleteParams::default()).await.unwrap();
        world.published("first").await;
        world.delete_service("second").await;
        world.gone::<k8s_openapi::api::core::v1::Service>("second").await;
        let map = world.api::<ConfigMap>().get("lb-svc-second").await.unwrap();
        assert_eq!(map.resource_version(), lookalike.resource_version());
        world.api::<ConfigMap>().delete("lb-svc-second", &DeleteParams::default()).await.unwrap();
    });
}

#[test]
fn what_others_add_is_left_and_not_fought_over() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        let apply = async |manager: &str, object: Value| {
            let patch = Patch::Apply(object);
            world.api::<Deployment>().patch(NAME, &PatchParams::apply(manager), &patch).await.unwrap();
        };
        let head = |rest: Value| {
            let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
            object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            object
        };
        apply(
            "one",
            head(json!({"metadata": {"name": NAME, "labels": {"team": "a"}, "annotations": {"cost": "1"}}})),
        )
        .await;
        // As `kubectl rollout restart` does, and a webhook that adds to pods.
        let sidecar = json!({"name": "sidecar", "image": "example.com/sidecar"});
        let template =
            json!({"metadata": {"annotations": {"restartedAt": "now"}}, "spec": {"containers": [sidecar]}});
        apply("two", head(json!({"metadata": {"name": NAME}, "spec": {"template": template}}))).await;
        edit::<ConfigMap>(
            world,
            NAME,
            json!({"metadata": {"labels": {"team": "a"}}, "data": {"notes": "x"}}),
        )
        .await;
        wait::eventually("the pod has its sidecar", async || {
            let pod = world.gateway_pod("web").await;
            (pod.spec.unwrap().containers.len() == 2).then_some(())
        })
        .await;

        world.proxy.quiet(Duration::from_secs(1)).await;
        world.proxy.clear();
        world.patch_service("web", json!({"spec": {"ports": [{"name": "tcp-81", "port": 81}]}})).await;
        world.gateway_told("web", "/ports/0/port", json!(81)).await;
        wait::eventually("the pod is told", async || (world.proxy.count("patch", "pods") > 0).then_some(()))
            .await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        let writes: Vec<String> =
            world.proxy.writes().iter().map(|write| write.route.resource.clone()).collect();
        assert_eq!(writes, ["configmaps", "pods"]);
        let deployment = serde_json::to_value(world.deployment("web").await.unwrap()).unwrap();
        assert_eq!(deployment["metadata"]["labels"]["team"], "a");
        assert_eq!(deployment["metadata"]["annotations"]["cost"], "1");
        assert_eq!(deployment["spec"]["template"]["metadata"]["annotations"]["restartedAt"], "now");
        let map = world.api::<ConfigMap>().get(NAME).await.unwrap();
        assert_eq!(map.labels()["team"], "a");
        assert_eq!(map.data.unwrap()["notes"], "x");
    });
}
