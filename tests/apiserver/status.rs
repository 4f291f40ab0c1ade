//! When an address is published, and when it is not any more.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use sluice_apiserver_tests::kubelet::Conduct;
use sluice_apiserver_tests::proxy::Route;
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, World, annotate};
use sluice_controller::events::EventReason;

/// Waits until the Service has a gateway pod that runs and is not Ready.
async fn runs(world: &World, service: &str) {
    wait::eventually("the pod runs", async || {
        let pods = world.gateway_pods(service).await;
        let phase = pods.first()?.status.as_ref()?.phase.as_deref()?;
        (phase == "Running").then_some(())
    })
    .await;
}

#[test]
fn published_once_the_gateway_is_ready() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.kubelet.set("lb-svc-web", Conduct::Unready);
        world.service("web").on(&network).create().await;
        runs(world, "web").await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        assert_eq!(world.vips("web").await, [""; 0]);
        assert_eq!(world.reservations(&network).await.len(), 1, "it has its address all the same");

        world.kubelet.set("lb-svc-web", Conduct::Ready);
        world.published("web").await;
        let status = world.get_service("web").await.status.unwrap().load_balancer.unwrap();
        let ingress = serde_json::to_value(status.ingress).unwrap();
        assert_eq!(ingress, json!([{"ip": "172.18.0.11", "ipMode": "VIP"}]));
        world.event("web", EventReason::Served, &["172.18.0.11"]).await;
    });
}

#[test]
fn withdrawn_after_the_grace_period_and_not_before() {
    const GRACE: Duration = Duration::from_secs(4);
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with(&format!("--grace-period={}s", GRACE.as_secs()));
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;

        let begin = Instant::now();
        world.kubelet.set("lb-svc-web", Conduct::Unready);
        world.withdrawn("web").await;
        assert!(begin.elapsed() >= GRACE, "after {:?}", begin.elapsed());
        world.event("web", EventReason::Withdrawn, &["no gateway pod serves 172.18.0.11"]).await;
        world.event("web", EventReason::GatewayNotReady, &["runs, but does not serve"]).await;
        world.kubelet.set("lb-svc-web", Conduct::Ready);
        world.published_at("web", "172.18.0.11").await;
    });
}

#[test]
fn a_pod_that_is_replaced_in_time_is_no_reason_to_withdraw() {
    world::test(async |world| {
        let (network, _controller) = world.serving("web").await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        world.proxy.clear();
        world.delete_pod(&world.gateway_pod("web").await).await;
        let key = format!("{}.kubernetes.io/allocated", network.provider);
        wait::eventually("the new pod is told, too", async || {
            (World::annotation(&world.gateway_pod("web").await, &key) == "true").then_some(())
        })
        .await;
        world.proxy.quiet(Duration::from_secs(1)).await;
        assert_eq!(world.proxy.count("patch", "services/status"), 0);
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn nothing_is_written_while_nothing_happens() {
    world::test(async |world| {
        let network = world.external_network().await;
        // A pass over each Service every half second, those that are refused included.
        let mut controller = world.controller().await.with("--resync=500ms");
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.service("refused").on(&network).address("10.9.9.9").create().await;
        world.service("advised").on(&network).annotate("sluice.io/maxflows", "1").create().await;
        world.published("web").await;
        world.published("advised").await;
        world.event("refused", EventReason::Refused, &["10.9.9.9"]).await;
        world.event("advised", EventReason::UnknownAnnotation, &["sluice.io/maxflows"]).await;
        world.proxy.quiet(Duration::from_secs(2)).await;
        world.proxy.clear();
        let passes =
            async || controller.metric("sluice_controller_reconcile_duration_seconds_count").await.unwrap();
        let before = passes().await;
        wait::eventually("there were passes", async || (passes().await >= before + 20.0).then_some(())).await;
        let asked = world.proxy.exchanges();
        // Other tests' Subnets change, and each controller tells of all of them.
        let others = |route: &Route| route.resource == "subnets/status" && route.name != network.subnet;
        let writes: Vec<_> =
            asked.iter().filter(|asked| asked.route.is_write() && !others(&asked.route)).collect();
        assert!(writes.is_empty(), "{writes:?}");
        let told = world.events("refused").await;
        assert_eq!(told.len(), 1, "{told:?}");

        // The same after a restart, but for Events, of which the new process knows nothing.
        controller.kill();
        world.proxy.clear();
        controller.start().await;
        wait::eventually("there were passes", async || {
            (controller.metric("sluice_controller_reconcile_duration_seconds_count").await? >= 10.0)
                .then_some(())
        })
        .await;
        let writes = world.proxy.writes();
        assert!(writes.is_empty(), "{writes:?}");
    });
}

#[test]
fn an_address_stays_published_over_a_restart_of_the_controller() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--grace-period=3s");
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        controller.terminate();

        // What happens meanwhile is seen afterwards; the period begins when this process sees it.
        world.kubelet.set("lb-svc-web", Conduct::Unready);
        wait::eventually("the pod is not Ready", async || {
            let pods = world.gateway_pods("web").await;
            let conditions = pods.first()?.status.as_ref()?.conditions.as_ref()?;
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "False")
                .then_some(())
        })
        .await;
        let begin = Instant::now();
        controller.start().await;
        world.withdrawn("web").await;
        assert!(begin.elapsed() >= Duration::from_secs(3), "after {:?}", begin.elapsed());
        world.kubelet.set("lb-svc-web", Conduct::Ready);
        world.published_at("web", "172.18.0.11").await;
    });
}

#[test]
fn other_writers_of_the_service_are_tolerated() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.kubelet.set("lb-svc-web", Conduct::Pending);
        world.service("web").on(&network).create().await;
        // As Kube-OVN does.
        world.patch_service("web", annotate("ovn.kubernetes.io/vpc", "ovn-cluster")).await;
        let switch = "ovn.kubernetes.io/service_external_ip_from_subnet";
        world.patch_service("web", annotate(switch, network.subnet.as_str())).await;
        world
            .patch_service(
                "web",
                json!({"metadata": {"finalizers": ["example.com/other", "sluice.io/lb-svc"]}}),
            )
            .await;
        let condition = json!({"type": "Other", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        world.api::<Service>().patch_status("web", &PatchParams::default(), &patch).await.unwrap();
        world.kubelet.set("lb-svc-web", Conduct::Ready);
        world.published("web").await;
        let service = world.get_service("web").await;
        assert_eq!(service.annotations()["ovn.kubernetes.io/vpc"], "ovn-cluster");
        assert_eq!(service.annotations()[switch], network.subnet);
        assert_eq!(service.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].type_, "Other");

        // What another writes into the status is put right.
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
        world.api::<Service>().patch_status("web", &PatchParams::default(), &patch).await.unwrap();
        world.published_at("web", "172.18.0.11").await;

        // The finalizer of another outlives ours.
        world.delete_service("web").await;
        wait::eventually("ours is gone", async || {
            (world.get_service("web").await.finalizers() == ["example.com/other"]).then_some(())
        })
        .await;
        assert!(world.reservations(&network).await.is_empty());
        world.patch_service("web", json!({"metadata": {"finalizers": null}})).await;
        world.gone::<Service>("web").await;
    });
}

#[test]
fn a_refused_service_is_published_only_while_it_is_served() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--grace-period=1s");
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        world.patch_service("web", annotate("sluice.io/max-flows", "many")).await;
        world.event("web", EventReason::Refused, &["`many`"]).await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
        world.kubelet.set("lb-svc-web", Conduct::Unready);
        world.withdrawn("web").await;
        world.kubelet.set("lb-svc-web", Conduct::Ready);
        world.published_at("web", "172.18.0.11").await;
        let pod = world.gateway_pod("web").await;
        world.kubelet.set("lb-svc-web", Conduct::Pending);
        let api = world.api::<k8s_openapi::api::core::v1::Pod>();
        api.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
        world.withdrawn("web").await;
        assert_eq!(world.reservations(&network).await.len(), 1, "the address stays its own");
    });
}
