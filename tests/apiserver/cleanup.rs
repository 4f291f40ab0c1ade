//! The ways out.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::kubelet::Kubelet;
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, World, annotate};
use sluice_controller::api::annotation::ATTACHMENT_PROVIDER;
use sluice_controller::events::EventReason;

/// Waits until the Service's only pod is about to go.
async fn leaves(world: &World, service: &str) -> Pod {
    wait::eventually(&format!("the pod of {service} is to go"), async || {
        let mut pods = world.gateway_pods(service).await;
        pods.pop().filter(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await
}

#[test]
fn an_address_is_freed_once_its_pod_is_gone_on_every_way_out() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let ways = ["deleted", "retyped", "unannotated"];
        for way in ways {
            world.service(way).on(&network).create().await;
        }
        for way in ways {
            world.published(way).await;
            world.gateway_pod(way).await;
        }
        world.kubelet.keep_deleted_pods(true);
        world.delete_service("deleted").await;
        world.patch_service("retyped", json!({"spec": {"type": "ClusterIP"}})).await;
        world.patch_service("unannotated", annotate(ATTACHMENT_PROVIDER, Value::Null)).await;
        for way in ways {
            leaves(world, way).await;
        }
        world.proxy.quiet(Duration::from_secs(2)).await;
        for way in ways {
            let service = world.get_service(way).await;
            assert_eq!(service.finalizers(), ["sluice.io/lb-svc"], "{way}");
            assert!(
                world.gateway_file(way).await.is_some(),
                "{way}: what the pod reads stays as long as it does"
            );
            let withdrawn = world::vips(&service).is_empty();
            assert!(withdrawn || way == "deleted", "{way}");
        }
        let held = world.reservations(&network).await;
        assert_eq!(held.len(), ways.len());
        // Nobody else gets it meanwhile.
        let address = held[0].spec.address.to_string();
        world.service("next").on(&network).address(&address).create().await;
        world.event("next", EventReason::Refused, &[&address, &held[0].spec.service.name]).await;
        for way in ways {
            let pod = world.gateway_pods(way).await.remove(0).name_any();
            world.event(way, EventReason::Waiting, &[&pod, "still has the address", "--force"]).await;
        }

        world.kubelet.keep_deleted_pods(false);
        for way in ways {
            world.left(way, &network).await;
        }
        world.published_at("next", &address).await;
        world.gone::<Service>("deleted").await;
        // The proxy may note the last answer after the object is seen to be gone.
        wait::eventually("the steps came in order", async || in_order(world, "deleted").then_some(())).await;
    });
}

/// Whether what was written of a Service's end came in the safe order.
fn in_order(world: &World, service: &str) -> bool {
    let exchanges = world.proxy.exchanges();
    let name = format!("lb-svc-{service}");
    let last = |verb: &str, resource: &str, name: &str| {
        exchanges.iter().rposition(|exchange| {
            let route = &exchange.route;
            route.verb == verb && route.resource == resource && route.name == name
        })
    };
    let steps = [
        last("delete", "deployments", &name),
        last("delete", "configmaps", &name),
        last("patch", "services", service),
    ];
    let first_free = exchanges
        .iter()
        .position(|exchange| exchange.route.verb == "delete" && exchange.route.resource == "ipreservations");
    steps[0].is_some() && steps.is_sorted() && first_free > steps[0]
}

#[test]
fn a_service_that_comes_back_before_it_has_left_gets_its_gateway_again() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        world.gateway_pod("web").await;
        world.kubelet.keep_deleted_pods(true);
        world.patch_service("web", json!({"spec": {"type": "ClusterIP"}})).await;
        let old = leaves(world, "web").await;
        world.patch_service("web", json!({"spec": {"type": "LoadBalancer"}})).await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        assert!(world.vips("web").await.is_empty());
        assert_eq!(world.gateway_pods("web").await.len(), 1, "no second pod beside the old one");
        world.kubelet.keep_deleted_pods(false);
        world.published_at("web", "172.18.0.11").await;
        assert_ne!(world.gateway_pod("web").await.uid(), old.uid());
    });
}

#[test]
fn a_service_of_the_same_name_is_another() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).address("172.18.0.50").create().await;
        world.published("web").await;
        world.delete_service("web").await;
        world.gone::<Service>("web").await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        let held = world.reservations(&network).await;
        assert_eq!(held.len(), 1);
        assert_eq!(Some(&held[0].spec.service.uid), world.get_service("web").await.metadata.uid.as_ref());
    });
}

#[test]
fn a_namespace_that_is_deleted_leaves_nothing() {
    world::test(async |world| {
        // Account and role of the controller are in the test's namespace, so another one goes.
        let network = world.external_network().await;
        let namespace = format!("{}-gone", world.namespace);
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let namespaces = world.cluster_api::<Namespace>();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        let kubelet = Kubelet::start(world.client.clone(), &namespace);
        let mut controller = world.controller_for(&namespace).await;
        controller.start().await;
        let services = kube::Api::<Service>::namespaced(world.client.clone(), &namespace);
        let service = world.service("web").on(&network).build();
        services.create(&PostParams::default(), &service).await.unwrap();
        wait::eventually("it is published", async || {
            (!world::vips(&services.get("web").await.unwrap()).is_empty()).then_some(())
        })
        .await;

        kubelet.keep_deleted_pods(true);
        namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
        let pods = kube::Api::<Pod>::namespaced(world.client.clone(), &namespace);
        wait::eventually("the pod is to go", async || {
            let pods = pods.list(&Default::default()).await.unwrap().items;
            pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()).then_some(())
        })
        .await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        assert_eq!(world.reservations(&network).await.len(), 1);
        kubelet.keep_deleted_pods(false);
        wait::eventually("the namespace is gone", async || {
            namespaces.get_opt(&namespace).await.unwrap().is_none().then_some(())
        })
        .await;
        assert!(world.reservations(&network).await.is_empty());
    });
}

#[test]
fn a_config_map_that_was_deleted_by_hand_is_no_obstacle() {
    world::test(async |world| {
        let (network, mut controller) = world.serving("web").await;
        controller.terminate();
        world.api::<ConfigMap>().delete("lb-svc-web", &DeleteParams::default()).await.unwrap();
        world.delete_service("web").await;
        controller.start().await;
        world.left("web", &network).await;
        world.gone::<Service>("web").await;
    });
}
