//! The role that the controller prints is what it asks for: nothing is missing, and nothing is too much.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use sluice_apiserver_tests::kube_ovn::Version;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};
use sluice_controller::events::EventReason;
use sluice_controller::rbac::NEEDS;

/// A verb, an API group and a resource.
type Words = (String, String, String);

fn words(verb: &str, group: &str, resource: &str) -> Words {
    (verb.to_owned(), group.to_owned(), resource.to_owned())
}

/// Deletes the gateway's objects of a Service, and waits until they are back.
async fn delete_children(world: &World, service: &str) {
    let name = format!("lb-svc-{service}");
    let deployment: Deployment = world.api().get(&name).await.unwrap();
    let map: ConfigMap = world.api().get(&name).await.unwrap();
    world.api::<Deployment>().delete(&name, &DeleteParams::background()).await.unwrap();
    world.api::<ConfigMap>().delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("they are back", async || {
        let again: Deployment = world.api().get_opt(&name).await.unwrap()?;
        let map_again: ConfigMap = world.api().get_opt(&name).await.unwrap()?;
        (again.uid() != deployment.uid() && map_again.uid() != map.uid()).then_some(())
    })
    .await;
    world.gateway_pod(service).await;
}

#[test]
fn what_is_asked_for_is_what_the_role_allows() {
    world::test(async |world| {
        let own = world.external_network().await;
        let by_pod = world.network("by-pod", "172.19.0.0/24").create().await;
        let by_vip = world.network("by-vip", "172.20.0.0/24").create().await;
        let _release = world.kube_ovn(Version::V1_16, &[&by_pod]).await;
        let _master = world.kube_ovn(Version::Master, &[&by_vip]).await;
        let mut controller = world.controller().await.with("--leader-elect=true");
        controller.start().await;
        // Somebody was quicker: whose is it now?
        world.proxy.answer("create", "ipreservations", 409, 1);
        for (name, network) in [("own", &own), ("pod", &by_pod), ("vip", &by_vip)] {
            world.service(name).on(network).create().await;
            world.published(name).await;
        }
        let taken = world.vips("pod").await.remove(0);
        world.service("refused").on(&by_pod).address(&taken).create().await;
        world.event("refused", EventReason::Waiting, &[&taken]).await;
        delete_children(world, "own").await;
        controller.terminate();
        controller.start().await;
        for name in ["own", "pod", "vip", "refused"] {
            world.delete_service(name).await;
            world.gone::<Service>(name).await;
        }
        controller.terminate();

        let asked = world.servers.audited(&world.controller_user()).unwrap();
        let denied: Vec<_> = asked.iter().filter(|access| !access.allowed).collect();
        assert!(denied.is_empty(), "{denied:#?}");
        let mut asked: BTreeSet<Words> =
            asked.into_iter().map(|access| (access.verb, access.group, access.resource)).collect();
        // Server-side apply is a patch, which the API server lets make a new object only who may create one.
        asked.extend([words("create", "", "configmaps"), words("create", "apps", "deployments")]);
        let allowed = NEEDS
            .iter()
            .flat_map(|need| need.verbs.iter().map(|verb| words(verb, need.group, need.resource)));
        let allowed: BTreeSet<Words> = allowed.collect();
        let difference: Vec<_> = asked.symmetric_difference(&allowed).collect();
        assert!(difference.is_empty(), "asked for or allowed, and not both: {difference:#?}");
    });
}
