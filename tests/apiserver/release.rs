//! `sluice-controller release`: the way out of all Services at once.

use std::collections::BTreeSet;
use std::process::Output;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use sluice_apiserver_tests::helm::Helm;
use sluice_apiserver_tests::kube_ovn::Version;
use sluice_apiserver_tests::programs;
use sluice_apiserver_tests::world::{self, World};
use sluice_controller::events::EventReason;
use sluice_controller::rbac::RELEASE_NEEDS;
use tokio::process::Command;

/// The command, for the test's namespace, by an account with the role of the chart's hook.
async fn command(world: &World) -> Command {
    let served = format!("controller.namespace={}", world.namespace);
    let helm = Helm::new(None).unwrap();
    let arguments =
        ["--set", &served, "--show-only", "templates/release.yaml", "--namespace", &world.namespace];
    let manifests = helm.template(&arguments).await.unwrap();
    let without_job = manifests.split("---\n").filter(|document| !document.contains("kind: Job"));
    world.apply(&without_job.collect::<Vec<_>>().join("---\n")).await;
    let kubeconfig = world.kubeconfig_of(&account(world)).await;
    let mut command = Command::new(programs::controller().unwrap());
    command
        .args(["release", "--namespace", &world.namespace])
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true);
    command
}

/// The account that the chart's hook runs as.
fn account(world: &World) -> String {
    format!("sluice-controller-{}-release", world.namespace)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A verb, an API group and a resource.
type Words = (String, String, String);

async fn lease(world: &World) -> Option<Lease> {
    world.api().get_opt(&format!("sluice-controller-{}", world.namespace)).await.unwrap()
}

#[test]
fn nothing_of_any_service_is_left_and_the_role_is_what_that_takes() {
    world::test(async |world| {
        let own = world.external_network().await;
        let by_pod = world.network("by-pod", "172.19.0.0/24").create().await;
        let by_vip = world.network("by-vip", "172.20.0.0/24").create().await;
        let _release = world.kube_ovn(Version::V1_16, &[&by_pod]).await;
        let _master = world.kube_ovn(Version::Master, &[&by_vip]).await;
        let mut controller = world.controller().await.with("--leader-elect=true");
        controller.start().await;
        let services = [("own", &own), ("pod", &by_pod), ("vip", &by_vip), ("dying", &own), ("orphan", &own)];
        for (name, network) in services {
            world.service(name).on(network).create().await;
            world.published(name).await;
        }
        controller.terminate();
        assert!(lease(world).await.is_some());
        world.delete_service("dying").await;
        // Somebody dropped the finalizer by hand, so that nobody has freed the address.
        world.patch_service("orphan", json!({ "metadata": { "finalizers": null } })).await;
        world.delete_service("orphan").await;

        for _ in 0..2 {
            let mut release = command(world).await;
            release.arg(format!("--stop=sluice-controller-{}", world.namespace));
            let output = release.output().await.unwrap();
            assert!(output.status.success(), "{}", said(&output));
            for (name, network) in services {
                world.left(name, network).await;
            }
            assert!(lease(world).await.is_none());
        }
        for name in ["own", "pod", "vip"] {
            world.event(name, EventReason::Withdrawn, &["no longer served"]).await;
            world.delete_service(name).await;
            world.gone::<Service>(name).await;
        }
        world.gone::<Service>("dying").await;

        let user = format!("system:serviceaccount:{}:{}", world.namespace, account(world));
        let asked = world.servers.audited(&user).unwrap();
        let denied: Vec<_> = asked.iter().filter(|access| !access.allowed).collect();
        assert!(denied.is_empty(), "{denied:#?}");
        let asked: BTreeSet<Words> =
            asked.into_iter().map(|access| (access.verb, access.group, access.resource)).collect();
        let allowed = RELEASE_NEEDS.iter().flat_map(|need| {
            need.verbs
                .iter()
                .map(|verb| ((*verb).to_owned(), need.group.to_owned(), need.resource.to_owned()))
        });
        let allowed: BTreeSet<Words> = allowed.collect();
        let difference: Vec<_> = asked.symmetric_difference(&allowed).collect();
        assert!(difference.is_empty(), "asked for or allowed, and not both: {difference:#?}");
    });
}

#[test]
fn nothing_is_touched_while_a_controller_leads() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--leader-elect=true");
        for flag in ["--lease-duration=3s", "--lease-renew-deadline=2s", "--lease-retry-period=400ms"] {
            controller = controller.with(flag);
        }
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;

        let output = command(world).await.args(["--timeout", "5s"]).output().await.unwrap();
        let text = said(&output);
        assert!(!output.status.success() && text.contains("has not given it up"), "{text}");
        world.gateway_pod("web").await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);

        // Its Lease runs out.
        controller.kill();
        let output = command(world).await.output().await.unwrap();
        assert!(output.status.success(), "{}", said(&output));
        world.left("web", &network).await;
    });
}
