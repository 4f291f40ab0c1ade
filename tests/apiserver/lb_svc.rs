//! Kube-OVN's own load balancer beside Sluice.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world;
use sluice_controller::events::EventReason;

const METRIC: &str = "sluice_controller_kube_ovn_lb_svc_enabled";

/// Kube-OVN's controller, started with these arguments.
fn kube_ovn(args: Value) -> Deployment {
    let labels = json!({"app": "kube-ovn-controller"});
    let container = json!({"name": "kube-ovn-controller", "image": "example.com/kube-ovn", "args": args});
    let deployment = json!({
        "metadata": {"name": "kube-ovn-controller"},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    serde_json::from_value(deployment).unwrap()
}

/// It concerns every Service of a cluster, hence one of its own.
#[test]
fn is_seen_and_not_fought_over_until_it_is_off() {
    world::test_with_own_servers(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        for name in ["web", "leaving"] {
            world.service(name).on(&network).create().await;
            world.published(name).await;
        }
        assert_eq!(controller.metric(METRIC).await, Some(0.0));

        let start = "/kube-ovn/start-controller.sh";
        let system: Api<Deployment> = Api::namespaced(world.client.clone(), "kube-system");
        let on = kube_ovn(json!([start, "--enable-lb-svc=true"]));
        system.create(&PostParams::default(), &on).await.unwrap();
        wait::eventually("it is seen", async || {
            let (code, text) = controller.ask("/readyz").await.ok()?;
            (code == 503 && text.contains("Deployment kube-system/kube-ovn-controller")).then_some(())
        })
        .await;
        assert_eq!(controller.metric(METRIC).await, Some(1.0));
        let fix = "--enable-lb-svc=true";
        world
            .event(
                "web",
                EventReason::KubeOvnLbSvcEnabled,
                &["kube-system/kube-ovn-controller", fix, "set it to false"],
            )
            .await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        world.proxy.clear();
        world.service("next").on(&network).create().await;
        world.patch_service("web", json!({"spec": {"ports": [{"name": "alt", "port": 81}]}})).await;
        world.event("next", EventReason::KubeOvnLbSvcEnabled, &[fix]).await;
        world.proxy.quiet(Duration::from_secs(2)).await;
        let writes = world.proxy.writes();
        assert!(writes.is_empty(), "{writes:?}");
        assert_eq!(world.vips("web").await, ["172.18.0.11"], "what is served stays");

        // What was Sluice's can still go.
        world.delete_service("leaving").await;
        world.gone::<Service>("leaving").await;

        let off = Patch::Merge(serde_json::to_value(kube_ovn(json!([start]))).unwrap());
        system.patch("kube-ovn-controller", &PatchParams::default(), &off).await.unwrap();
        world.gateway_told("web", "/ports/0/port", json!(81)).await;
        world.published("next").await;
        assert_eq!(controller.metric(METRIC).await, Some(0.0));
        controller.ready().await;
    });
}
