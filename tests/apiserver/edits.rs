//! Edits while a gateway serves.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::NetworkAttachmentDefinition;
use sluice_controller::events::EventReason;

/// A Service that is served, and what must not change of it.
struct Served<'w> {
    world: &'w World,
    network: &'w Network,
    pod: String,
    generation: Option<i64>,
    hash: String,
}

impl<'w> Served<'w> {
    async fn new(world: &'w World, network: &'w Network) -> Self {
        world.published("web").await;
        let pod = world.gateway_pod("web").await;
        let generation = world.deployment("web").await.unwrap().metadata.generation;
        let hash = World::annotation(&pod, "sluice.io/config-hash");
        Self { world, network, pod: pod.uid().unwrap(), generation, hash }
    }

    /// Changes the Service, and waits until its gateway is told this.
    async fn edit(&mut self, patch: Value, pointer: &str, expected: Value) {
        self.world.patch_service("web", patch).await;
        self.told(pointer, expected).await;
    }

    /// Waits until the file says this, and the pod's annotation that makes its kubelet refresh it has changed.
    async fn told(&mut self, pointer: &str, expected: Value) {
        self.world.gateway_told("web", pointer, expected).await;
        let before = self.hash.clone();
        self.hash = wait::eventually("the live pod's annotation changes", async || {
            let pod = self.is_undisturbed().await;
            Some(World::annotation(&pod, "sluice.io/config-hash")).filter(|hash| *hash != before)
        })
        .await;
    }

    /// Waits until the live pod has this annotation of the network.
    async fn annotated(&self, name: &str, value: &str) {
        let key = format!("{}.kubernetes.io/{name}", self.network.provider);
        wait::eventually(&format!("{key} is {value}"), async || {
            (World::annotation(&self.is_undisturbed().await, &key) == value).then_some(())
        })
        .await;
    }

    /// It is the same pod, and its Deployment has not been touched.
    async fn is_undisturbed(&self) -> Pod {
        let mut pods = self.world.gateway_pods("web").await;
        assert_eq!(pods.len(), 1);
        let pod = pods.remove(0);
        assert_eq!((pod.uid().as_ref(), &pod.metadata.deletion_timestamp), (Some(&self.pod), &None));
        assert_eq!(self.world.deployment("web").await.unwrap().metadata.generation, self.generation);
        assert_eq!(self.world.vips("web").await, ["172.18.0.11"]);
        pod
    }
}

fn ports(ports: Value) -> Value {
    json!({ "spec": { "ports": ports } })
}

#[test]
fn ports_and_ranges_reach_the_pod_that_runs() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).port(80).create().await;
        let mut served = Served::new(world, &network).await;

        let (http, alt) = (json!({"name": "http", "port": 80}), json!({"name": "alt", "port": 8080}));
        let told = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port, "targetPort": port});
        let both = json!([told("alt", "TCP", 8080), told("http", "TCP", 80)]);
        served.edit(ports(json!([alt, http])), "/ports", both).await;
        // One that differs by its protocol alone.
        let udp = json!({"name": "dns", "port": 80, "protocol": "UDP"});
        let all = json!([told("alt", "TCP", 8080), told("http", "TCP", 80), told("dns", "UDP", 80)]);
        served.edit(ports(json!([alt, http, udp])), "/ports", all).await;
        served.edit(ports(json!([http])), "/ports", json!([told("http", "TCP", 80)])).await;
        // kube-proxy sends to the new port of the pods: for the gateway nothing has changed.
        let targeted = json!({"name": "http", "port": 80, "targetPort": 8080});
        world.patch_service("web", ports(json!([targeted]))).await;
        served.edit(ports(json!([targeted, alt])), "/ports/1", told("alt", "TCP", 8080)).await;
        world.gateway_told("web", "/ports/0", told("http", "TCP", 80)).await;

        let ranges = |ranges: Value| json!({"spec": {"loadBalancerSourceRanges": ranges}});
        served
            .edit(
                ranges(json!(["203.0.113.0/24", "198.51.100.7/32"])),
                "/sourceRanges",
                json!(["203.0.113.0/24", "198.51.100.7/32"]),
            )
            .await;
        served.edit(ranges(json!(["203.0.113.0/24"])), "/sourceRanges", json!(["203.0.113.0/24"])).await;
        served.edit(ranges(Value::Null), "/sourceRanges", Value::Null).await;
        served.is_undisturbed().await;
    });
}

#[test]
fn edits_of_the_subnet_reach_the_pod_that_runs() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("web").on(&network).create().await;
        let mut served = Served::new(world, &network).await;
        let subnet = |spec: Value| json!({ "spec": spec });

        world.patch_subnet(&network, subnet(json!({"gateway": "172.18.0.254"}))).await;
        served.told("/vips/0/gateway", json!("172.18.0.254")).await;
        served.annotated("gateway", "172.18.0.254").await;
        world.patch_subnet(&network, subnet(json!({"gateway": ""}))).await;
        served.told("/vips/0/gateway", Value::Null).await;
        world.patch_subnet(&network, subnet(json!({"cidrBlock": "172.18.0.0/24"}))).await;
        served.told("/vips/0/address", json!("172.18.0.11/24")).await;
        served.annotated("cidr", "172.18.0.0/24").await;

        // An address that is excluded now is kept, and not given again.
        let excluded = json!(["172.18.0.0..172.18.0.20"]);
        world.patch_subnet(&network, subnet(json!({"excludeIps": excluded}))).await;
        world.service("next").on(&network).create().await;
        assert_eq!(world.published("next").await, ["172.18.0.21"]);
        served.is_undisturbed().await;
    });
}

#[test]
fn another_address_needs_another_pod_and_the_old_one_is_freed_last() {
    world::test(async |world| {
        let (network, _controller) = world.serving("web").await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
        let old = world.gateway_pod("web").await;
        let held = async || {
            let held = world.reservations(&network).await;
            held.iter()
                .map(|held| format!("{} {}", held.spec.address, held.spec.service.name))
                .collect::<Vec<_>>()
        };

        // The old pod's node does not let it go: it may still answer for its address.
        world.kubelet.keep_deleted_pods(true);
        world.patch_service("web", json!({"spec": {"loadBalancerIP": "172.18.0.50"}})).await;
        wait::eventually("the old pod is to go", async || {
            let pods = world.gateway_pods("web").await;
            pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()).then_some(())
        })
        .await;
        world.service("next").on(&network).address("172.18.0.11").create().await;
        let holder = format!("{}/web", world.namespace);
        world.event("next", EventReason::Refused, &["spec.loadBalancerIP", "172.18.0.11", &holder]).await;
        world.withdrawn("web").await;
        assert_eq!(held().await, ["172.18.0.11 web", "172.18.0.50 web"]);
        let pods = world.gateway_pods("web").await;
        assert_eq!(pods.len(), 1, "none serves the new address beside the old pod");
        let key = format!("{}.kubernetes.io/ip_address", network.provider);
        assert_eq!(World::annotation(&pods[0], &key), "172.18.0.11", "what the old pod has is not forgotten");

        world.kubelet.keep_deleted_pods(false);
        world.published_at("web", "172.18.0.50").await;
        assert_ne!(world.gateway_pod("web").await.uid(), old.uid());
        world.published_at("next", "172.18.0.11").await;
        assert_eq!(held().await, ["172.18.0.11 next", "172.18.0.50 web"]);
    });
}

#[test]
fn an_edited_network_reaches_the_gateway_by_another_pod() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        let old = world.gateway_pod("web").await;
        let config = |config: &str| json!({ "spec": { "config": config } });
        let edit = async |patch: Value| {
            let api = world.api::<NetworkAttachmentDefinition>();
            api.patch("external", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        };
        // The same in other words.
        edit(config("{\"type\": \"macvlan\", // the card\n \"master\": \"ext0\", \"mode\": \"bridge\", \"cniVersion\": \"0.3.1\"}")).await;
        world.event("web", EventReason::CommentInNetwork, &["spec.config", "remove it"]).await;
        assert_eq!(world.gateway_pod("web").await.uid(), old.uid());

        edit(config(r#"{"type": "macvlan", "master": "ext1", "mode": "bridge", "cniVersion": "0.3.1"}"#))
            .await;
        wait::eventually("another pod serves", async || {
            (world.gateway_pod("web").await.uid() != old.uid()).then_some(())
        })
        .await;
        world.published_at("web", "172.18.0.11").await;
    });
}

#[test]
fn new_options_of_the_controller_reach_gateways_a_few_at_a_time() {
    const SERVICES: usize = 6;
    const AT_ONCE: usize = 2;
    world::test(async |world| {
        let network = world.external_network().await;
        let mut old = world.controller().await.with("--gateway-image=example.com/gateway:1");
        old.start().await;
        let names: Vec<String> = (0..SERVICES).map(|number| format!("web{number}")).collect();
        for name in &names {
            world.service(name).on(&network).create().await;
        }
        let mut vips = Vec::new();
        for name in &names {
            vips.push(world.published(name).await);
            world.gateway_pod(name).await;
        }
        old.terminate();

        // Pods that do not end are replacements that do not end.
        world.kubelet.keep_deleted_pods(true);
        let new = world.controller().await.with("--gateway-image=example.com/gateway:2");
        let mut new = new.with(&format!("--max-restarts={AT_ONCE}")).with("--grace-period=10m");
        new.start().await;
        wait::eventually("the first replacements have begun", async || {
            (leaving(world, &names).await >= AT_ONCE).then_some(())
        })
        .await;
        world.proxy.quiet(std::time::Duration::from_secs(3)).await;
        assert_eq!(leaving(world, &names).await, AT_ONCE);

        world.kubelet.keep_deleted_pods(false);
        wait::eventually("all pods have the new image", async || {
            let mut done = 0;
            for name in &names {
                let pods = world.gateway_pods(name).await;
                assert!(pods.len() <= 1, "two pods of {name} at once");
                done += usize::from(pods.first().is_some_and(|pod| image(pod) == "example.com/gateway:2"));
            }
            (done == SERVICES).then_some(())
        })
        .await;
        for (name, vips) in names.iter().zip(vips) {
            world.gateway_pod(name).await;
            assert_eq!(world.vips(name).await, vips);
        }
        let unpublished = world
            .proxy
            .exchanges()
            .iter()
            .filter(|exchange| exchange.route.resource == "services/status")
            .count();
        assert_eq!(unpublished, SERVICES, "published once each, and never withdrawn");
    });
}

/// How many pods of these Services are about to go.
async fn leaving(world: &World, services: &[String]) -> usize {
    let mut count = 0;
    for service in services {
        let pods = world.gateway_pods(service).await;
        count += pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
    }
    count
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}

#[test]
fn a_settings_edit_makes_another_pod() {
    world::test(async |world| {
        let (_, _controller) = world.serving("web").await;
        let old = world.gateway_pod("web").await;
        world.patch_service("web", world::annotate("sluice.io/max-flows", "1024")).await;
        wait::eventually("another pod serves", async || {
            (world.gateway_pod("web").await.uid() != old.uid()).then_some(())
        })
        .await;
        assert!(world.gateway_file("web").await.unwrap().contains("maxFlows: 1024"));
        world.published_at("web", "172.18.0.11").await;
        let service: Service = world.get_service("web").await;
        assert_eq!(service.finalizers(), ["sluice.io/lb-svc"]);
    });
}
