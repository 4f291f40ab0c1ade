//! What upstream's own end-to-end tests of LoadBalancer Services ask for, without the packets: with Sluice's own addresses, and with
//! those that Kube-OVN gives in each of its ways.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use sluice_apiserver_tests::kube_ovn::Version;
use sluice_apiserver_tests::wait::within;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::Vip;

/// How long upstream waits for the Deployment, and for the Service's status.
const MINUTE: Duration = Duration::from_secs(60);

/// Waits for the Deployment to be complete and for its only pod to have an address, and returns that.
async fn served(world: &World, network: &Network, time: Duration) -> IpAddr {
    within(time, "the Deployment is complete", async || {
        let deployment: Deployment = world.deployment("web").await?;
        let status = deployment.status?;
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        let is_seen = status.observed_generation == deployment.metadata.generation;
        (is_seen && counts == [Some(1); 3]).then_some(())
    })
    .await;
    within(time, "the only pod has an address", async || {
        let pods = world.gateway_pods("web").await;
        let [pod] = pods.as_slice() else { return None };
        let annotation =
            |field: &str| pod.annotations().get(&format!("{}.kubernetes.io/{field}", network.provider));
        let address: IpAddr = annotation("ip_address")?.parse().unwrap();
        let prefix: IpNet = annotation("cidr")?.parse().unwrap();
        assert!(prefix.contains(&address), "{address} is not in {prefix}");
        assert_eq!(annotation("gateway").map(String::as_str), Some("172.18.0.1"));
        (annotation("allocated")? == "true").then_some(address)
    })
    .await
}

/// Waits for the status to show the address that the pod has.
async fn published(world: &World, address: IpAddr, time: Duration) {
    within(time, "the status has one entry", async || {
        let vips = world.vips("web").await;
        assert!(vips.len() < 2, "{vips:?}");
        (vips == [address.to_string()]).then_some(())
    })
    .await;
}

async fn accept(world: &World, network: &Network, asked: Option<&str>) {
    let mut controller = world.controller().await;
    controller.start().await;
    let mut service = world.service("web").on(network).subnet(network);
    if let Some(address) = asked {
        service = service.address(address);
    }
    service.create().await;
    let address = served(world, network, MINUTE).await;
    if let Some(asked) = asked {
        assert_eq!(address.to_string(), asked);
    }
    published(world, address, MINUTE).await;

    let before = world.gateway_pod("web").await;
    world.delete_pod(&before).await;
    let half = MINUTE / 2;
    assert_eq!(served(world, network, half).await, address, "the address stays with the Service");
    assert_ne!(world.gateway_pod("web").await.uid(), before.uid());
    published(world, address, half).await;

    world.delete_service("web").await;
    within(2 * MINUTE, "the Deployment disappears by itself", async || {
        world.deployment("web").await.is_none().then_some(())
    })
    .await;
    world.gone::<Service>("web").await;
    assert!(world.gateway_pods("web").await.is_empty(), "the Service waits for its pods");
    assert!(world.api::<Pod>().list(&Default::default()).await.unwrap().items.is_empty());
    assert!(world.reservations(network).await.is_empty(), "the address is free again");
    let vips = world.cluster_api::<Vip>().list(&Default::default()).await.unwrap();
    assert!(vips.items.iter().all(|vip| vip.spec.subnet != network.subnet), "and so is Kube-OVN's");
}

fn own(asked: Option<&str>) {
    world::test(async |world| {
        let network = world.external_network().await;
        accept(world, &network, asked).await;
    });
}

fn kube_ovn(version: Version, asked: Option<&str>) {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(version, &[&network]).await;
        accept(world, &network, asked).await;
    });
}

fn kube_ovn_as_the_network_says(asked: Option<&str>) {
    world::test(async |world| {
        let network =
            world.network("external", "172.18.0.0/16").gateway("172.18.0.1").ipam("kube-ovn").create().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&network]).await;
        accept(world, &network, asked).await;
    });
}

#[test]
fn any_address() {
    own(None);
}

#[test]
fn the_address_that_is_asked_for() {
    own(Some("172.18.0.18"));
}

#[test]
fn any_address_by_the_pods_of_kube_ovns_release() {
    kube_ovn(Version::V1_16, None);
}

#[test]
fn the_address_that_is_asked_for_by_the_pods_of_kube_ovns_release() {
    kube_ovn(Version::V1_16, Some("172.18.0.18"));
}

#[test]
fn any_address_by_the_vips_of_kube_ovns_master_branch() {
    kube_ovn(Version::Master, None);
}

#[test]
fn the_address_that_is_asked_for_by_the_vips_of_kube_ovns_master_branch() {
    kube_ovn(Version::Master, Some("172.18.0.18"));
}

#[test]
fn any_address_by_the_pods_of_kube_ovns_master_branch() {
    kube_ovn_as_the_network_says(None);
}

#[test]
fn the_address_that_is_asked_for_by_the_pods_of_kube_ovns_master_branch() {
    kube_ovn_as_the_network_says(Some("172.18.0.18"));
}
