//! Subnets: their status, several of one network, and edits.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::proxy::Route;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::{Subnet, SubnetSpec, SubnetStatus, annotation};
use sluice_controller::events::EventReason;

async fn patch_subnet(world: &World, name: &str, patch: Value) {
    let subnets = world.cluster_api::<Subnet>();
    subnets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Waits for a Subnet's status.
async fn status(world: &World, network: &Network, expected: &SubnetStatus) {
    let what = format!("the status of {} is {expected:?}", network.subnet);
    eventually(&what, async || {
        let subnet = world.cluster_api::<Subnet>().get(&network.subnet).await.unwrap();
        subnet.status.filter(|status| says(status, expected)).map(drop)
    })
    .await;
}

/// Whether `status` is the expected one, but for the last digits of numbers beyond 2^53.
fn says(status: &SubnetStatus, expected: &SubnetStatus) -> bool {
    let near = (status.v6_available_ips / expected.v6_available_ips - 1.0).abs() < 1e-15;
    let mut status = status.clone();
    if near {
        status.v6_available_ips = expected.v6_available_ips;
    }
    status == *expected
}

/// How often the controllers of this test have written a Subnet's status.
pub fn status_writes(world: &World, network: &Network) -> usize {
    let is_it = |route: &Route| route.resource == "subnets/status" && route.name == network.subnet;
    world.proxy.writes().iter().filter(|exchange| is_it(&exchange.route)).count()
}

fn v4(using: (f64, &str), available: (f64, &str)) -> SubnetStatus {
    SubnetStatus {
        v4_using_ips: using.0,
        v4_using_ip_range: using.1.to_owned(),
        v4_available_ips: available.0,
        v4_available_ip_range: available.1.to_owned(),
        ..SubnetStatus::default()
    }
}

#[test]
fn the_status_follows_what_is_given_and_freed() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let all = v4((0.0, ""), (65524.0, "172.18.0.11-172.18.255.254"));
        status(world, &network, &all).await;
        world.service("dynamic").on(&network).create().await;
        world.service("excluded").on(&network).address("172.18.0.5").create().await;
        let both = v4((2.0, "172.18.0.5,172.18.0.11"), (65523.0, "172.18.0.12-172.18.255.254"));
        status(world, &network, &both).await;

        let narrower = json!({ "spec": { "cidrBlock": "172.18.0.0/28" } });
        patch_subnet(world, &network.subnet, narrower).await;
        let few = v4((2.0, "172.18.0.5,172.18.0.11"), (3.0, "172.18.0.12-172.18.0.14"));
        status(world, &network, &few).await;

        world.delete_service("dynamic").await;
        world.delete_service("excluded").await;
        status(world, &network, &v4((0.0, ""), (4.0, "172.18.0.11-172.18.0.14"))).await;
        // Controllers of other namespaces may have been faster.
        let written = status_writes(world, &network);
        assert!(written <= 6, "{written} writes for four states");
    });
}

#[test]
fn fields_of_others_in_the_status_stay() {
    world::test(async |world| {
        let network = world.external_network().await;
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        let subnets = world.cluster_api::<Subnet>();
        let patch = Patch::Merge(ready);
        subnets.patch_status(&network.subnet, &PatchParams::default(), &patch).await.unwrap();
        let mut controller = world.controller().await;
        controller.start().await;
        status(world, &network, &v4((0.0, ""), (65524.0, "172.18.0.11-172.18.255.254"))).await;
        let live = world.cluster_api::<Subnet>().get_metadata(&network.subnet).await.unwrap();
        let fields = serde_json::to_string(&live.metadata.managed_fields).unwrap();
        assert!(fields.contains("f:conditions"), "{fields}");
    });
}

#[test]
fn a_huge_ipv6_subnet_is_not_walked() {
    world::test(async |world| {
        let network = world.network("huge", "fd00:6::/48").gateway("fd00:6::1");
        let network = network.exclude(&["fd00:6::..fd00:6::ffff:ffff"]).create().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let single = |service: &mut k8s_openapi::api::core::v1::Service| {
            service.spec.get_or_insert_default().ip_families = Some(vec!["IPv6".to_owned()]);
        };
        world.service("web").on(&network).edit(single).create().await;
        assert_eq!(world.published("web").await, ["fd00:6::1:0:0"]);
        let expected = SubnetStatus {
            v6_using_ips: 1.0,
            v6_using_ip_range: "fd00:6::1:0:0".to_owned(),
            // 2^80 less the 2^32 that are excluded and the one in use, as exactly as a JSON number says it.
            v6_available_ips: 2_f64.powi(80) - 2_f64.powi(32),
            v6_available_ip_range: "fd00:6::1:0:1-fd00:6:0:ffff:ffff:ffff:ffff:ffff".to_owned(),
            ..SubnetStatus::default()
        };
        status(world, &network, &expected).await;
        let name = world.reservations(&network).await[0].name_any();
        assert_eq!(name, format!("{}.fd00-0006-0000-0000-0000-0001-0000-0000", network.provider));
    });
}

#[test]
fn two_subnets_of_one_network_that_overlap_share_their_addresses() {
    world::test(async |world| {
        let network = world.network("net", "10.9.0.0/24").gateway("10.9.0.1").create().await;
        let half = format!("{}-half", network.subnet);
        let spec = SubnetSpec {
            provider: network.provider.to_string(),
            cidr_block: "10.9.0.0/25".to_owned(),
            gateway: "10.9.0.1".to_owned(),
            ..SubnetSpec::default()
        };
        world.cluster_api().create(&PostParams::default(), &Subnet::new(&half, spec)).await.unwrap();
        let mut controller = world.controller().await;
        controller.start().await;
        let key = annotation::logical_switch(&network.provider);
        world.service("whole").on(&network).subnet(&network).create().await;
        assert_eq!(world.published("whole").await, ["10.9.0.2"]);
        world.service("half").on(&network).annotate(&key, &half).create().await;
        assert_eq!(world.published("half").await, ["10.9.0.3"]);
        // Both count both.
        status(world, &network, &v4((2.0, "10.9.0.2-10.9.0.3"), (251.0, "10.9.0.4-10.9.0.254"))).await;
        let other = Network { provider: network.provider.clone(), subnet: half };
        status(world, &other, &v4((2.0, "10.9.0.2-10.9.0.3"), (123.0, "10.9.0.4-10.9.0.126"))).await;
    });
}

#[test]
fn an_address_that_a_shrunk_subnet_has_lost_is_told_and_served_on() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).address("172.18.1.1").create().await;
        assert_eq!(world.published("web").await, ["172.18.1.1"]);
        world.patch_service("web", json!({ "spec": { "loadBalancerIP": null } })).await;
        let pod = world.gateway_pod("web").await;

        patch_subnet(world, &network.subnet, json!({ "spec": { "cidrBlock": "172.18.0.0/24" } })).await;
        let object = format!("Subnet {}: spec.cidrBlock: 172.18.1.1, which Service ", network.subnet);
        let fix = "write another address into spec.loadBalancerIP";
        world.event("web", EventReason::Refused, &[&object, "is outside 172.18.0.0/24", fix]).await;
        assert_eq!(world.vips("web").await, ["172.18.1.1"]);
        assert_eq!(world.gateway_pod("web").await.uid(), pod.uid());
        assert_eq!(world.reservations(&network).await.len(), 1);

        world.patch_service("web", json!({ "spec": { "loadBalancerIP": "172.18.0.30" } })).await;
        eventually("the address that was asked for is served", async || {
            (world.vips("web").await == ["172.18.0.30"]).then_some(())
        })
        .await;
        eventually("the old one is free", async || {
            (world.reservations(&network).await.len() == 1).then_some(())
        })
        .await;
    });
}
