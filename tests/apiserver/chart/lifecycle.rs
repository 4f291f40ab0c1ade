//! The chart from its installation to its end, on a cluster that has nothing of Sluice.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sluice_apiserver_tests::containers::Node;
use sluice_apiserver_tests::helm::{Helm, NAMESPACE, RELEASE, chart, repository};
use sluice_apiserver_tests::kubelet::Conduct;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};

/// How long Helm waits for what it has made.
const TIMEOUT: &str = "--timeout=90s";
/// The definition of reservations, which is the chart's.
const OURS: &str = "ipreservations.sluice.io";
/// The definition of Subnets, which may be Kube-OVN's.
const THEIRS: &str = "subnets.kubeovn.io";

/// A cluster, and Helm for it.
struct Cluster<'w> {
    world: &'w World,
    helm: Helm,
    node: Node,
}

/// Runs `body` on a cluster that lacks these definitions, in which Sluice's namespace takes `restricted` pods only.
fn test(lacks: &[&str], body: impl AsyncFnOnce(&Cluster<'_>)) {
    world::test_with_own_servers(async |world| {
        for definition in lacks {
            let definitions = world.cluster_api::<CustomResourceDefinition>();
            definitions.delete(definition, &DeleteParams::default()).await.unwrap();
            eventually("the definition is gone", async || {
                defined(world, definition).await.is_none().then_some(())
            })
            .await;
        }
        // Its API goes a moment after it.
        eventually("the API is gone", async || {
            (!everything(&world.client).await.contains("APIService /v1alpha1.sluice.io")).then_some(())
        })
        .await;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": NAMESPACE, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        });
        world.apply(&namespace.to_string()).await;
        let kubeconfig = world.servers.admin_kubeconfig();
        let node = Node::start(&world.servers, &world.client, NAMESPACE);
        let cluster = Cluster { world, helm: Helm::new(Some(&kubeconfig)).unwrap(), node };
        body(&cluster).await;
    });
}

/// The definition of this name; `None`: there is none.
async fn defined(world: &World, name: &str) -> Option<CustomResourceDefinition> {
    world.cluster_api().get_opt(name).await.unwrap()
}

impl Cluster<'_> {
    async fn helm(&self, arguments: &[&str]) -> String {
        self.helm.run(&[arguments, &["--wait", TIMEOUT]].concat()).await.unwrap()
    }

    /// Installs or upgrades, with these values.
    async fn put(&self, verb: &str, values: &[&str]) -> String {
        let chart = chart().display().to_string();
        self.helm(&[&[verb, RELEASE, &chart], values].concat()).await
    }

    /// The controller's Deployment.
    async fn controller(&self) -> Deployment {
        Api::namespaced(self.world.client.clone(), NAMESPACE).get("sluice-controller").await.unwrap()
    }

    /// The image of a Service's gateway.
    async fn image(&self, service: &str) -> Option<String> {
        let pod = self.world.gateway_pod(service).await;
        pod.spec.unwrap().containers[0].image.clone()
    }
}

/// Every object of every kind that can be listed, as `<kind> <namespace>/<name>`; Events apart, which pass.
async fn everything(client: &Client) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    // An API that is just going is still listed, and not there any more.
    let discover = async || Discovery::new(client.clone()).run().await.ok();
    let discovery = eventually("all APIs answer", discover).await;
    for group in discovery.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            if kind.kind == "Event" || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            let Ok(objects) = api.list(&ListParams::default()).await else { continue };
            let name = |object: &DynamicObject| {
                format!("{} {}/{}", kind.kind, object.namespace().unwrap_or_default(), object.name_any())
            };
            all.extend(objects.iter().map(name));
        }
    }
    all
}

/// Waits until there is what there was `before`, and nothing else.
async fn only_left(client: &Client, before: &BTreeSet<String>) {
    let mut difference = Vec::new();
    let same = async || {
        difference = everything(client).await.symmetric_difference(before).cloned().collect();
        difference.is_empty().then_some(())
    };
    eventually("there is what there was before", same).await;
}

#[test]
fn installed_upgraded_rolled_back_and_uninstalled() {
    test(&[OURS], async |cluster| {
        let world = cluster.world;
        let network = world.external_network().await;
        world.service("web").on(&network).create().await;
        let subnets = defined(world, THEIRS).await.unwrap();
        let before = everything(&world.client).await;

        let registry = "gateway.image.registry=registry.example.com/net";
        let notes = cluster.put("install", &["--set", "replicas=1", "--set", registry]).await;
        assert!(
            notes.contains("kubectl -n sluice-system rollout status deployment/sluice-controller"),
            "{notes}"
        );
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        let image = format!("registry.example.com/net/sluice-gateway:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(cluster.image("web").await, Some(image.clone()));

        let gateway = world.gateway_pod("web").await.spec.unwrap().containers.remove(0);
        let ports: Vec<_> = gateway.ports.iter().flatten().filter_map(|port| port.name.as_deref()).collect();
        assert_eq!(ports, ["admin"], "what the PodMonitor asks for");

        let values =
            "replicas=2,gateway.image.tag=9.9.9,controller.gracePeriod=3m,admissionPolicy.enabled=true";
        cluster.put("upgrade", &["--set", values]).await;
        let policies = world.cluster_api::<ValidatingAdmissionPolicy>();
        assert!(policies.get_opt("sluice-services").await.unwrap().is_some());
        let spec = cluster.controller().await.spec.unwrap();
        assert_eq!(spec.replicas, Some(2));
        let args = spec.template.spec.unwrap().containers[0].args.clone().unwrap();
        assert!(args.contains(&"--grace-period=3m".to_owned()), "{args:?}");
        eventually("the gateway has the new image", async || {
            (cluster.image("web").await.as_deref() == Some("sluice-gateway:9.9.9")).then_some(())
        })
        .await;
        world.published_at("web", "172.18.0.11").await;

        cluster.helm(&["rollback", RELEASE, "1"]).await;
        assert_eq!(cluster.controller().await.spec.unwrap().replicas, Some(1));
        assert!(policies.get_opt("sluice-services").await.unwrap().is_none());
        eventually("the gateway has the image of before", async || {
            (cluster.image("web").await.as_ref() == Some(&image)).then_some(())
        })
        .await;
        world.published_at("web", "172.18.0.11").await;

        cluster.helm(&["uninstall", RELEASE]).await;
        let web = world.get_service("web").await;
        assert!(web.finalizers().is_empty() && world::vips(&web).is_empty(), "{web:#?}");
        only_left(&world.client, &before).await;
        let now = defined(world, THEIRS).await.unwrap();
        assert_eq!((now.uid(), now.resource_version()), (subnets.uid(), subnets.resource_version()));
        world.delete_service("web").await;
        world.gone::<Service>("web").await;
    });
}

#[test]
fn without_kube_ovn_the_chart_brings_subnets_and_leaves_them() {
    test(&[OURS, THEIRS], async |cluster| {
        let world = cluster.world;
        cluster.put("install", &["--set", "replicas=1"]).await;
        let network = world.external_network().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        cluster.helm(&["uninstall", RELEASE]).await;
        assert!(defined(world, OURS).await.is_none());
        assert!(defined(world, THEIRS).await.is_some());

        cluster.put("install", &["--set", "replicas=1"]).await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn an_installation_without_a_controller_can_be_uninstalled() {
    test(&[OURS], async |cluster| {
        let world = cluster.world;
        let network = world.external_network().await;
        cluster.put("install", &["--set", "replicas=1"]).await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        // The next one finds no node, and the Service keeps what it has.
        cluster.node.kubelet().set("sluice-controller-", Conduct::Pending);
        cluster.node.kubelet().set("sluice-controller-release-", Conduct::Unready);
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
        pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        cluster.helm(&["uninstall", RELEASE]).await;
        world.left("web", &network).await;
    });
}

#[test]
fn an_uninstallation_that_cannot_end_says_why_and_can_be_repeated() {
    test(&[OURS], async |cluster| {
        let world = cluster.world;
        let network = world.external_network().await;
        cluster.put("install", &["--set", "replicas=1", "--set", "uninstall.timeout=5s"]).await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        let gateway = world.gateway_pod("web").await.name_any();
        world.kubelet.keep_deleted_pods(true);
        cluster
            .helm
            .run(&["uninstall", RELEASE, "--wait", TIMEOUT])
            .await
            .expect_err("a pod that does not go");
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
        let job =
            pods.list(&ListParams::default().labels("app.kubernetes.io/name=sluice-release")).await.unwrap();
        let log = cluster.node.log(&job.items[0].name_any());
        assert!(
            log.contains("not done within 5s")
                && log.contains(&gateway)
                && log.contains("kubectl delete pod --force"),
            "{log}"
        );
        assert_eq!(world.reservations(&network).await.len(), 1, "the pod may still have the address");

        world.kubelet.keep_deleted_pods(false);
        cluster.helm(&["uninstall", RELEASE]).await;
        world.left("web", &network).await;
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), NAMESPACE);
        assert!(leases.list(&ListParams::default()).await.unwrap().items.is_empty());
    });
}

#[test]
fn plain_manifests_do_the_same() {
    test(&[OURS], async |cluster| {
        let world = cluster.world;
        let network = world.external_network().await;
        world.service("web").on(&network).create().await;
        let before = everything(&world.client).await;
        let [all, release] = ["deploy/sluice.yaml", "deploy/release.yaml"]
            .map(|file| fs::read_to_string(repository(file)).unwrap());
        world.apply(&all).await;
        world.published("web").await;

        world.apply(&release).await;
        let jobs: Api<Job> = Api::namespaced(world.client.clone(), NAMESPACE);
        eventually("the Job is complete", async || {
            jobs.get("sluice-controller-release").await.unwrap().status?.succeeded.filter(|count| *count == 1)
        })
        .await;
        world.left("web", &network).await;
        for manifests in [release, all] {
            world.delete(&manifests).await;
        }
        // The namespace is one of the manifests.
        let outside: BTreeSet<String> = before.into_iter().filter(|name| !name.contains(NAMESPACE)).collect();
        only_left(&world.client, &outside).await;
    });
}
