//! Watches that are cut off or have become too old: what happened meanwhile is noticed all the same.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::json;
use sluice_apiserver_tests::proxy::Mode;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};
use sluice_controller::api::{IPReservation, Subnet};

const QUIET: Duration = Duration::from_millis(500);

/// Objects are deleted and changed between `begin` and `end` of a gap in the watches.
async fn notices_what_happened(world: &World, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) {
    let network = world.external_network().await;
    let mut controller = world.controller().await;
    controller.start().await;
    for (name, address) in [("broken", "172.18.0.11"), ("leaving", "172.18.0.12"), ("former", "172.18.0.13")]
    {
        world.service(name).on(&network).create().await;
        assert_eq!(world.published(name).await, [address]);
    }
    let before = world.gateway_pod("broken").await.uid();
    world.proxy.quiet(QUIET).await;

    begin().await;
    world.api::<Deployment>().delete("lb-svc-broken", &DeleteParams::background()).await.unwrap();
    world.api::<ConfigMap>().delete("lb-svc-broken", &DeleteParams::default()).await.unwrap();
    for reservation in world.reservations(&network).await {
        if reservation.spec.service.name == "broken" {
            let reservations = world.cluster_api::<IPReservation>();
            reservations.delete(&reservation.name_any(), &DeleteParams::default()).await.unwrap();
        }
    }
    world.gone::<Deployment>("lb-svc-broken").await;
    eventually("its pod is gone", async || world.gateway_pods("broken").await.is_empty().then_some(())).await;
    world.delete_service("leaving").await;
    world.patch_service("former", json!({ "spec": { "type": "ClusterIP" } })).await;
    world.apply(&format!(
        "{{apiVersion: kubeovn.io/v1, kind: Subnet, metadata: {{name: {}}}, spec: {{gateway: 172.18.0.2}}}}",
        network.subnet
    ))
    .await;
    end().await;

    world.gone::<k8s_openapi::api::core::v1::Service>("leaving").await;
    eventually("the former load balancer holds nothing", async || {
        let service = world.get_service("former").await;
        (service.finalizers().is_empty() && world.deployment("former").await.is_none()).then_some(())
    })
    .await;
    assert_ne!(world.gateway_pod("broken").await.uid(), before);
    eventually("the file is there again, with the new router", async || {
        let map = world.api::<ConfigMap>().get_opt("lb-svc-broken").await.unwrap()?;
        map.data?.values().any(|file| file.contains("172.18.0.2")).then_some(())
    })
    .await;
    eventually("what is served is reserved, and nothing else", async || {
        let held = world.reservations(&network).await;
        let held: Vec<String> = held.iter().map(|held| held.spec.address.to_string()).collect();
        (held == ["172.18.0.11"]).then_some(())
    })
    .await;
    assert_eq!(world.published("broken").await, ["172.18.0.11"]);
    controller.ready().await;
    let subnet = world.cluster_api::<Subnet>().get(&network.subnet).await.unwrap();
    assert_eq!(subnet.spec.gateway, "172.18.0.2");
}

#[test]
fn what_is_deleted_while_watches_expire_is_noticed() {
    world::test(async |world| {
        let begin = async || {
            world.proxy.set(Mode::Hold);
            world.proxy.expire_watches();
            // Those of Services, Deployments, ConfigMaps, pods, networks, Subnets and reservations.
            eventually("all watches begin anew", async || (world.proxy.held() >= 7).then_some(())).await;
        };
        notices_what_happened(world, begin, async || world.proxy.set(Mode::Pass)).await;
    });
}

#[test]
fn what_is_deleted_while_connections_are_cut_is_noticed() {
    world::test(async |world| {
        let begin = async || world.proxy.set(Mode::Cut);
        notices_what_happened(world, begin, async || world.proxy.set(Mode::Pass)).await;
    });
}

#[test]
fn a_controller_that_was_cut_off_is_ready_again_without_a_change_and_writes_nothing() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--grace-period=1s");
        controller.start().await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        world.proxy.quiet(QUIET).await;
        world.proxy.clear();

        world.proxy.set(Mode::Cut);
        eventually("it says that it is cut off", async || (!controller.is_ready().await).then_some(())).await;
        world.proxy.set(Mode::Pass);
        controller.ready().await;
        world.proxy.quiet(QUIET).await;
        let writes: Vec<String> = world.proxy.writes().iter().map(ToString::to_string).collect();
        assert_eq!(writes, [""; 0]);
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

/// What is sent more than once was asked of the lease once only.
#[test]
fn a_write_that_the_server_puts_off_is_sent_again_by_another_pass_alone() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.proxy.answer("patch", "services/status", 429, 3);
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        let metric =
            "sluice_controller_writes_total{verb=\"patch\",resource=\"services/status\",result=\"error\"}";
        assert_eq!(controller.metric(metric).await, Some(3.0));
    });
}
