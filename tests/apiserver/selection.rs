//! Which Services are Sluice's, and what happens when that changes.

use kube::api::PostParams;
use serde_json::{Value, json};
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, World, annotate};
use sluice_controller::api::annotation::{ATTACHMENT_PROVIDER, NETWORKS, logical_switch};
use sluice_controller::api::{
    NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, Provider, Subnet, SubnetSpec,
};
use sluice_controller::events::EventReason;

/// A Service has nothing of Sluice's, and nobody has told it anything.
async fn is_left_alone(world: &World, name: &str) {
    let service = world.get_service(name).await;
    assert_eq!(service.metadata.finalizers, None, "{name}");
    assert!(world.deployment(name).await.is_none(), "{name}");
    assert_eq!(world.gateway_file(name).await, None, "{name}");
    assert_eq!(world.events(name).await, [], "{name}");
    let asked = world.proxy.exchanges();
    assert!(!asked.iter().any(|exchange| exchange.route.is_write() && exchange.route.name == name), "{name}");
}

#[test]
fn a_network_with_ipam_without_and_in_another_namespace() {
    world::test(async |world| {
        let plain = world.network("plain", "10.1.0.0/24").create().await;
        let ipam = world.network("ipam", "10.2.0.0/24").ipam("static").create().await;
        let far = far_network(world, "10.3.0.0/24").await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("plain").on(&plain).create().await;
        world.service("ipam").on(&ipam).create().await;
        world.service("far").annotate(ATTACHMENT_PROVIDER, &far.to_string()).create().await;
        for (service, address, network) in [
            ("plain", "10.1.0.1", format!("{}/plain", world.namespace)),
            ("ipam", "10.2.0.1", format!("{}/ipam", world.namespace)),
            ("far", "10.3.0.1", format!("default/{}", far.nad)),
        ] {
            assert_eq!(world.published(service).await, [address]);
            let pod = world.gateway_pod(service).await;
            assert_eq!(World::annotation(&pod, NETWORKS), network);
        }
    });
}

/// A network in the namespace `default`, whose name is this test's own.
async fn far_network(world: &World, cidr: &str) -> Provider {
    let provider = Provider { nad: world.namespace.clone(), namespace: "default".to_owned() };
    let config = json!({ "cniVersion": "0.3.1", "type": "macvlan", "master": "ext0" }).to_string();
    let network = NetworkAttachmentDefinition::new(&provider.nad, NetworkAttachmentDefinitionSpec { config });
    let api = kube::Api::namespaced(world.client.clone(), "default");
    api.create(&PostParams::default(), &network).await.unwrap();
    make_subnet(world, &format!("{}-far", world.namespace), &provider, cidr).await;
    provider
}

async fn make_subnet(world: &World, name: &str, provider: &Provider, cidr: &str) {
    let spec =
        SubnetSpec { provider: provider.to_string(), cidr_block: cidr.to_owned(), ..SubnetSpec::default() };
    world.cluster_api().create(&PostParams::default(), &Subnet::new(name, spec)).await.unwrap();
}

#[test]
fn the_class_is_unset_or_sluices() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let class = |name: &'static str| {
            move |service: &mut k8s_openapi::api::core::v1::Service| {
                service.spec.get_or_insert_default().load_balancer_class = Some(name.to_owned());
            }
        };
        world.service("other").on(&network).edit(class("example.com/other")).create().await;
        world.service("none").create().await;
        world
            .service("cluster")
            .on(&network)
            .edit(|service| {
                service.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
            })
            .create()
            .await;
        world.service("ours").on(&network).edit(class("sluice.io/lb-svc")).create().await;
        world.service("unset").on(&network).create().await;
        let mut vips = [world.published("ours").await, world.published("unset").await].concat();
        vips.sort();
        assert_eq!(vips, ["172.18.0.11", "172.18.0.12"]);
        for name in ["other", "none", "cluster"] {
            is_left_alone(world, name).await;
        }
        // Who asks for Sluice by its class alone has forgotten the network.
        world.service("forgotten").edit(class("sluice.io/lb-svc")).create().await;
        let key = "metadata.annotations[ovn.kubernetes.io/attachmentprovider]: absent";
        world.event("forgotten", EventReason::Refused, &[key, "write <name>.<namespace>"]).await;
    });
}

#[test]
fn the_type_changes_to_and_fro() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let builder = world.service("web").on(&network).edit(|service| {
            service.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
        });
        builder.create().await;
        for _ in 0..2 {
            world.patch_service("web", json!({ "spec": { "type": "LoadBalancer" } })).await;
            assert_eq!(world.published("web").await, ["172.18.0.11"]);
            world.gateway_pod("web").await;
            world.patch_service("web", json!({ "spec": { "type": "ClusterIP" } })).await;
            world.left("web", &network).await;
        }
    });
}

#[test]
fn the_provider_is_changed_and_removed() {
    world::test(async |world| {
        let first = world.network("first", "10.1.0.0/24").create().await;
        let second = world.network("second", "10.2.0.0/24").create().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&first).create().await;
        assert_eq!(world.published("web").await, ["10.1.0.1"]);

        world.patch_service("web", annotate(ATTACHMENT_PROVIDER, second.provider.to_string())).await;
        world.published_at("web", "10.2.0.1").await;
        let pod = world.gateway_pod("web").await;
        assert_eq!(World::annotation(&pod, NETWORKS), format!("{}/second", world.namespace));
        wait::eventually("the first network has its address back", async || {
            world.reservations(&first).await.is_empty().then_some(())
        })
        .await;

        world.patch_service("web", annotate(ATTACHMENT_PROVIDER, Value::Null)).await;
        world.left("web", &second).await;
        assert_eq!(world.get_service("web").await.spec.unwrap().type_.as_deref(), Some("LoadBalancer"));
    });
}

#[test]
fn another_subnet_is_named() {
    world::test(async |world| {
        let network = world.network("external", "10.1.0.0/24").create().await;
        let key = logical_switch(&network.provider);
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["10.1.0.1"]);

        // Which one is meant is unclear now; what is served stays.
        let second = format!("{}-second", world.namespace);
        make_subnet(world, &second, &network.provider, "10.2.0.0/24").await;
        let text = world.event("web", EventReason::Refused, &[&key, "several Subnets"]).await;
        assert!(text.contains(&network.subnet) && text.contains(&second), "{text}");
        assert_eq!(world.vips("web").await, ["10.1.0.1"]);

        world.patch_service("web", annotate(&key, second.as_str())).await;
        world.published_at("web", "10.2.0.1").await;
        assert_eq!(World::annotation(&world.gateway_pod("web").await, &key), second);
        world.patch_service("web", annotate(&key, network.subnet.as_str())).await;
        world.published_at("web", "10.1.0.1").await;
        wait::eventually("only one address is held", async || {
            (world.reservations(&network).await.len() == 1).then_some(())
        })
        .await;
    });
}
