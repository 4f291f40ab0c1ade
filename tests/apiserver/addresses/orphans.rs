//! Addresses of Services that went while no controller ran.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::{Holder, IPReservation, IPReservationSpec};

/// Takes a Service away without its finalizer, and waits until it is gone.
async fn take_away(world: &World, service: &str) {
    world.patch_service(service, json!({ "metadata": { "finalizers": null } })).await;
    let background = DeleteParams::background();
    world.api::<Service>().delete(service, &background).await.unwrap();
    world.gone::<Service>(service).await;
}

async fn reserved(world: &World, network: &Network) -> Vec<String> {
    let reservations = world.reservations(network).await;
    reservations.iter().map(|reservation| reservation.spec.address.to_string()).collect()
}

async fn none_reserved(world: &World, network: &Network) {
    eventually("the address is free", async || reserved(world, network).await.is_empty().then_some(())).await;
}

#[test]
fn an_address_that_a_pod_still_carries_is_not_free() {
    world::test(async |world| {
        let (network, mut controller) = world.serving("web").await;
        let pod = world.gateway_pod("web").await;
        controller.kill();
        world.kubelet.keep_deleted_pods(true);
        take_away(world, "web").await;

        world.proxy.clear();
        controller.start().await;
        eventually("it has looked for the Service, and then at the pods", async || {
            let asked: Vec<String> = world.proxy.exchanges().iter().map(ToString::to_string).collect();
            // Pods are listed for the cache as well.
            let service = format!("get services {}/web", world.namespace);
            let mut asked = asked.iter().skip_while(|asked| !asked.contains(&service));
            asked.any(|asked| asked.contains("list pods")).then_some(())
        })
        .await;
        // A Service that comes meanwhile gets another.
        world.service("next").on(&network).create().await;
        eventually("the next address is reserved, too", async || {
            (reserved(world, &network).await == ["172.18.0.11", "172.18.0.12"]).then_some(())
        })
        .await;
        controller.kill();
        take_away(world, "next").await;

        world.kubelet.keep_deleted_pods(false);
        world.gone::<Pod>(&pod.name_any()).await;
        eventually("no gateway pod is left", async || {
            world.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
        controller.start().await;
        none_reserved(world, &network).await;
    });
}

#[test]
fn a_service_of_the_same_name_is_another() {
    world::test(async |world| {
        let (network, mut controller) = world.serving("web").await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
        controller.kill();
        let pod = world.gateway_pod("web").await;
        take_away(world, "web").await;
        world.gone::<Pod>(&pod.name_any()).await;

        world.service("web").on(&network).address("172.18.0.11").create().await;
        controller.start().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        let service = world.get_service("web").await;
        let reservations = world.reservations(&network).await;
        assert_eq!(Some(&reservations[0].spec.service.uid), service.metadata.uid.as_ref());
        assert_eq!(reservations.len(), 1);
    });
}

#[test]
fn what_another_namespaces_services_hold_is_not_touched() {
    world::test(async |world| {
        let network = world.external_network().await;
        let holder = |namespace: &str| Holder {
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
            uid: "none".to_owned(),
        };
        for (address, holder) in
            [("172.18.0.11", holder("elsewhere")), ("172.18.0.12", holder(&world.namespace))]
        {
            let name = sluice_controller::ipam::name::reservation(
                &network.provider.to_string(),
                address.parse().unwrap(),
            );
            let spec = IPReservationSpec {
                address: address.parse().unwrap(),
                provider: network.provider.to_string(),
                subnet: network.subnet.clone(),
                service: holder,
            };
            let reservation = IPReservation::new(&name, spec);
            world.cluster_api().create(&PostParams::default(), &reservation).await.unwrap();
        }
        let mut controller = world.controller().await;
        controller.start().await;
        eventually("our orphan is free, the other is not", async || {
            (reserved(world, &network).await == ["172.18.0.11"]).then_some(())
        })
        .await;
    });
}
