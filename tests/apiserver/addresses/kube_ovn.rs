//! Subnets whose addresses Kube-OVN gives.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use sluice_apiserver_tests::kube_ovn::Version;
use sluice_apiserver_tests::wait::{eventually, within};
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::{Vip, annotation};
use sluice_controller::events::EventReason;

fn pod_annotation<'a>(pod: &'a Pod, network: &Network, name: &str) -> Option<&'a str> {
    pod.annotations().get(&annotation::of_provider(&network.provider, name)).map(String::as_str)
}

fn template_address(deployment: &Deployment, network: &Network) -> Option<String> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get(&annotation::of_provider(&network.provider, "ip_address")).cloned()
}

/// The Vips of the test's Services.
async fn vips_of(world: &World) -> Vec<Vip> {
    let mut all = world.cluster_api::<Vip>().list(&ListParams::default()).await.unwrap().items;
    let prefix = format!("{}/", world.namespace);
    all.retain(|vip| vip.annotations().get(annotation::SERVICE).is_some_and(|of| of.starts_with(&prefix)));
    all
}

async fn no_vip_left(world: &World) {
    eventually("the Vip is gone", async || vips_of(world).await.is_empty().then_some(())).await;
}

/// Nothing of Sluice's own is used for a Subnet of Kube-OVN.
async fn nothing_of_ours(world: &World, network: &Network) {
    assert_eq!(world.reservations(network).await, []);
    let written = super::subnets::status_writes(world, network);
    assert_eq!(written, 0, "the Subnet's status is Kube-OVN's");
}

#[test]
fn the_pods_address_is_remembered_before_it_is_published() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).create().await;
        let given = world.published("web").await;
        let deployment = world.deployment("web").await.unwrap();
        assert_eq!(template_address(&deployment, &network).as_ref(), given.first());
        // The template that remembers it makes another pod.
        let pod = eventually("the pod has it", async || {
            let pod = world.gateway_pod("web").await;
            let is_given = pod_annotation(&pod, &network, "allocated") == Some("true");
            let address = pod_annotation(&pod, &network, "ip_address");
            (is_given && address == given.first().map(String::as_str)).then_some(pod)
        })
        .await;
        nothing_of_ours(world, &network).await;

        // Another takes what is free while the pod is away.
        controller.kill();
        world.delete_pod(&pod).await;
        controller.start().await;
        world.service("other").on(&network).create().await;
        assert_ne!(world.published("other").await, given);
        assert_ne!(world.gateway_pod("web").await.uid(), pod.uid());
        assert_eq!(world.published("web").await, given);
    });
}

#[test]
fn a_pod_gets_the_address_that_its_service_asks_for() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).address("172.18.0.60").create().await;
        assert_eq!(world.published("web").await, ["172.18.0.60"]);
        let first = world.gateway_pod("web").await;
        assert_eq!(first.metadata.generate_name, Some(owner_prefix(&first)), "the first pod had it at once");

        world.service("second").on(&network).address("172.18.0.60").create().await;
        world.event("second", EventReason::Waiting, &["172.18.0.60", "spec.loadBalancerIP"]).await;
        assert_eq!(world.vips("second").await, Vec::<String>::new());
        world.patch_service("second", json!({ "spec": { "loadBalancerIP": "172.18.0.61" } })).await;
        assert_eq!(world.published("second").await, ["172.18.0.61"]);
    });
}

/// What the names of the pods of one ReplicaSet begin with.
fn owner_prefix(pod: &Pod) -> String {
    format!("{}-", pod.owner_references()[0].name)
}

#[test]
fn a_network_that_asks_kube_ovn_gets_its_addresses_by_pod() {
    world::test(async |world| {
        let network = world.network("net", "172.18.0.0/16").gateway("172.18.0.1").ipam("kube-ovn");
        let network = network.create().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).create().await;
        let given = world.published("web").await;
        let pod = world.gateway_pod("web").await;
        assert_eq!(pod_annotation(&pod, &network, "ip_address"), given.first().map(String::as_str));
        assert_eq!(vips_of(world).await, []);
    });
}

#[test]
fn where_pods_get_nothing_a_vip_is_made() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        let mut controller = world.controller().await;
        controller.start().await;
        let service = world.service("web").on(&network).create().await;
        let given = world.published("web").await;
        let vips = vips_of(world).await;
        let [vip] = vips.as_slice() else { panic!("{vips:?}") };
        assert_eq!(vip.spec.subnet, network.subnet);
        assert_eq!(vip.spec.v4ip, None);
        assert_eq!(vip.status.as_ref().map(|status| &status.v4ip), given.first());
        assert_eq!(vip.labels().get(annotation::SERVICE_UID), service.metadata.uid.as_ref());
        let pod = world.gateway_pod("web").await;
        assert_eq!(pod_annotation(&pod, &network, "allocated"), Some("true"), "as the original's pods");
        nothing_of_ours(world, &network).await;

        controller.kill();
        world.delete_pod(&pod).await;
        controller.start().await;
        world.gateway_pod("web").await;
        assert_eq!(world.published("web").await, given);
        assert_eq!(vips_of(world).await.len(), 1);
        world.delete_service("web").await;
        no_vip_left(world).await;
    });
}

#[test]
fn another_request_is_another_vip_and_the_old_one_goes() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        let mut controller = world.controller().await.with("--kube-ovn-addresses=vip");
        controller.start().await;
        world.service("web").on(&network).address("172.18.0.70").create().await;
        assert_eq!(world.published("web").await, ["172.18.0.70"]);
        world.patch_service("web", json!({ "spec": { "loadBalancerIP": "172.18.0.71" } })).await;
        eventually("the other address is served, and the old one freed", async || {
            let only = vips_of(world).await.iter().map(|vip| vip.spec.v4ip.clone()).collect::<Vec<_>>();
            let served = world.vips("web").await == ["172.18.0.71"];
            (served && only == [Some("172.18.0.71".to_owned())]).then_some(())
        })
        .await;
        // Without a request the address stays what it is.
        world.patch_service("web", json!({ "spec": { "loadBalancerIP": null } })).await;
        world.proxy.quiet(Duration::from_secs(2)).await;
        assert_eq!(world.vips("web").await, ["172.18.0.71"]);
        assert_eq!(vips_of(world).await.len(), 1);
    });
}

#[test]
fn a_vip_without_an_answer_is_told_after_a_while() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        let mut controller = world.controller().await.with("--kube-ovn-addresses=vip");
        controller.start().await;
        world.service("first").on(&network).address("172.18.0.80").create().await;
        assert_eq!(world.published("first").await, ["172.18.0.80"]);
        world.service("second").on(&network).address("172.18.0.80").create().await;
        let taken = ["172.18.0.80", "probably taken", "spec.loadBalancerIP"];
        world.event("second", EventReason::Waiting, &taken).await;
        assert_eq!(world.vips("second").await, Vec::<String>::new());
        world.patch_service("second", json!({ "spec": { "loadBalancerIP": "172.18.0.81" } })).await;
        within(Duration::from_secs(90), "the other request is granted", async || {
            (world.vips("second").await == ["172.18.0.81"]).then_some(())
        })
        .await;
    });
}

#[test]
fn vips_of_services_that_went_unseen_are_freed() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        let mut controller = world.controller().await.with("--kube-ovn-addresses=vip");
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        let pod = world.gateway_pod("web").await;
        controller.kill();
        world.patch_service("web", json!({ "metadata": { "finalizers": null } })).await;
        world.delete_service("web").await;
        world.gone::<Pod>(&pod.name_any()).await;
        assert_eq!(vips_of(world).await.len(), 1);
        controller.start().await;
        no_vip_left(world).await;
    });
}

#[test]
fn a_service_keeps_its_address_when_kube_ovn_takes_over_the_subnet() {
    world::test(async |world| {
        let (network, _controller) = world.serving("lower").await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.12"]);
        world.delete_service("lower").await;
        eventually("it is gone", async || (world.reservations(&network).await.len() == 1).then_some(()))
            .await;

        let _kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        let pod = world.gateway_pod("web").await;
        world.delete_pod(&pod).await;
        eventually("Kube-OVN has given the new pod the old address", async || {
            let pod = world.gateway_pod("web").await;
            let is = |name, value| pod_annotation(&pod, &network, name) == Some(value);
            (is("allocated", "true") && is("ip_address", "172.18.0.12")).then_some(())
        })
        .await;
        assert_eq!(world.published("web").await, ["172.18.0.12"]);
    });
}
