//! The played Kube-OVN does what was seen of the real one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::kube_ovn::Version;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::{Subnet, Vip, VipSpec};

/// A pod that is attached to the network; `asks` are fields of its annotations for it.
async fn make_pod(world: &World, name: &str, network: &Network, asks: Value) {
    let (provider, nad) = (&network.provider, &network.provider.nad);
    let mut annotations = json!({ "k8s.v1.cni.cncf.io/networks": format!("{}/{nad}", provider.namespace) });
    for (field, value) in asks.as_object().unwrap() {
        annotations[format!("{provider}.kubernetes.io/{field}")] = value.clone();
    }
    let pod = json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "containers": [{ "name": "one", "image": "none" }] },
    });
    world.api::<Pod>().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

/// The pod's annotations for the network once it has been given an address.
async fn given(world: &World, pod: &str, network: &Network) -> BTreeMap<String, String> {
    eventually(&format!("pod {pod} has an address"), async || annotations(world, pod, network).await).await
}

async fn annotations(world: &World, pod: &str, network: &Network) -> Option<BTreeMap<String, String>> {
    let prefix = format!("{}.kubernetes.io/", network.provider);
    let pod = world.api::<Pod>().get(pod).await.unwrap();
    let strip =
        |(key, value): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()));
    let found: BTreeMap<String, String> = pod.annotations().iter().filter_map(strip).collect();
    found.contains_key("allocated").then_some(found)
}

async fn make_vip(world: &World, name: &str, network: &Network, address: Option<&str>) {
    let spec = VipSpec { subnet: network.subnet.clone(), v4ip: address.map(str::to_owned), v6ip: None };
    world.cluster_api().create(&PostParams::default(), &Vip::new(name, spec)).await.unwrap();
}

async fn vip_address(world: &World, name: &str) -> String {
    eventually(&format!("Vip {name} has an address"), async || {
        let vip = world.cluster_api::<Vip>().get(name).await.unwrap();
        vip.status.map(|status| status.v4ip).filter(|address| !address.is_empty())
    })
    .await
}

#[test]
fn the_release_gives_pods_of_any_network_an_address_and_vips_too() {
    world::test(async |world| {
        let network = world.external_network().await;
        let kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        let subnet = world.cluster_api::<Subnet>().get(&network.subnet).await.unwrap();
        assert!(subnet.is_kube_ovns());

        make_pod(world, "dynamic", &network, json!({})).await;
        let found = given(world, "dynamic", &network).await;
        let expected = [
            ("allocated", "true"),
            ("cidr", "172.18.0.0/16"),
            ("gateway", "172.18.0.1"),
            ("ip_address", "172.18.0.11"),
            ("logical_switch", &network.subnet),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());

        let vip = format!("{}-dynamic", world.namespace);
        make_vip(world, &vip, &network, None).await;
        assert_eq!(vip_address(world, &vip).await, "172.18.0.12");
        eventually("the Subnet counts both", async || {
            let status = world.cluster_api::<Subnet>().get(&network.subnet).await.unwrap().status?;
            (status.v4_using_ips == 2.0).then_some(())
        })
        .await;

        // What it gave it knows after a restart; what is deleted is free.
        drop(kube_ovn);
        let _kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        make_pod(world, "static", &network, json!({ "ip_address": "172.18.0.12" })).await;
        eventually("the pod is told that the Vip has it", async || {
            let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
            let is_it = |event: &Event| {
                event.reason.as_deref() == Some("AcquireAddressFailed")
                    && event.involved_object.name.as_deref() == Some("static")
                    && event.message.as_deref().is_some_and(|text| text.contains("172.18.0.12"))
            };
            events.iter().any(is_it).then_some(())
        })
        .await;
        world.cluster_api::<Vip>().delete(&vip, &DeleteParams::default()).await.unwrap();
        assert_eq!(given(world, "static", &network).await["ip_address"], "172.18.0.12");
    });
}

#[test]
fn the_master_branch_gives_pods_an_address_where_the_network_says_so() {
    world::test(async |world| {
        let plain = world.external_network().await;
        let managed = world.network("managed", "172.19.0.0/24").ipam("kube-ovn").create().await;
        let _kube_ovn = world.kube_ovn(Version::Master, &[&plain, &managed]).await;
        make_pod(world, "plain", &plain, json!({})).await;
        make_pod(world, "managed", &managed, json!({})).await;
        assert_eq!(given(world, "managed", &managed).await["ip_address"], "172.19.0.1");
        // Both were there when the second was answered.
        assert_eq!(annotations(world, "plain", &plain).await, None);

        let names = ["static", "taken"].map(|name| format!("{}-{name}", world.namespace));
        make_vip(world, &names[0], &plain, Some("172.18.0.18")).await;
        assert_eq!(vip_address(world, &names[0]).await, "172.18.0.18");
        make_vip(world, &names[1], &plain, Some("172.18.0.18")).await;
        let last = format!("{}-last", world.namespace);
        make_vip(world, &last, &plain, None).await;
        vip_address(world, &last).await;
        let taken = world.cluster_api::<Vip>().get(&names[1]).await.unwrap();
        assert_eq!(taken.status.unwrap_or_default().v4ip, "", "a refused Vip stays without an address");
    });
}

#[test]
fn a_subnet_stays_while_somebody_has_an_address_of_it() {
    world::test(async |world| {
        let network = world.external_network().await;
        let _kube_ovn = world.kube_ovn(Version::V1_16, &[&network]).await;
        let vip = format!("{}-vip", world.namespace);
        make_vip(world, &vip, &network, None).await;
        vip_address(world, &vip).await;
        let subnets = world.cluster_api::<Subnet>();
        subnets.delete(&network.subnet, &DeleteParams::default()).await.unwrap();
        assert!(subnets.get(&network.subnet).await.unwrap().is_kube_ovns());
        world.cluster_api::<Vip>().delete(&vip, &DeleteParams::default()).await.unwrap();
        eventually("the Subnet is gone", async || {
            subnets.get_opt(&network.subnet).await.unwrap().is_none().then_some(())
        })
        .await;
    });
}
