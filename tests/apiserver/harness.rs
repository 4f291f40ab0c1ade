//! What the other tests stand on: each part is shown to do what it is for.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Client, Config, ResourceExt as _};
use serde_json::json;
use sluice_apiserver_tests::kubelet::{Conduct, NODE, is_ready};
use sluice_apiserver_tests::proxy::Mode;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};

/// A client of the proxy that may do what the controller may.
async fn client(world: &World) -> Client {
    let mut config = Config::new(world.proxy.url().parse().unwrap());
    config.default_retry = false;
    config.auth_info.token = Some(world.controller_token().await.into());
    Client::try_from(config).unwrap()
}

async fn make_deployment(world: &World) -> Deployment {
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "none" }] },
            },
        },
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    world.api().create(&PostParams::default(), &deployment).await.unwrap()
}

async fn only_pod(world: &World, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
    eventually(what, async || {
        let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().find(&holds)
    })
    .await
}

#[test]
fn a_deployment_becomes_a_ready_pod_and_goes_with_all_that_it_made() {
    world::test(async |world| {
        world.kubelet.set("web-", Conduct::Pending);
        make_deployment(world).await;
        let pod = only_pod(world, "the controller manager makes a pod", |_| true).await;
        assert_eq!(pod.spec.unwrap().node_name, None);

        world.kubelet.set("web-", Conduct::Unready);
        let pod = only_pod(world, "it runs", |pod| is_ready(pod) == Some(false)).await;
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some(NODE));

        world.kubelet.set("web-", Conduct::Ready);
        only_pod(world, "it is Ready", |pod| is_ready(pod) == Some(true)).await;
        eventually("the Deployment sees that", async || {
            let status = world.api::<Deployment>().get("web").await.unwrap().status?;
            (status.available_replicas == Some(1)).then_some(())
        })
        .await;

        world.kubelet.keep_deleted_pods(true);
        let background = DeleteParams::background();
        world.api::<Deployment>().delete("web", &background).await.unwrap();
        only_pod(world, "the garbage collector deletes the pod", |pod| {
            pod.metadata.deletion_timestamp.is_some()
        })
        .await;
        world.kubelet.keep_deleted_pods(false);
        world.gone::<Pod>(&pod.metadata.name.unwrap()).await;
        assert!(world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items.is_empty());
    });
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

#[test]
fn the_proxy_counts_and_cuts_at_the_write_that_was_named() {
    world::test(async |world| {
        let client = client(world).await;
        let maps = kube::Api::<ConfigMap>::namespaced(client, &world.namespace);
        let cut = world.proxy.cut_after_write(2);
        maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
        maps.get("one").await.unwrap();
        maps.create(&PostParams::default(), &config_map("one"))
            .await
            .expect_err("it exists, which is no write");
        maps.create(&PostParams::default(), &config_map("two")).await.expect_err("the answer is held back");
        assert_eq!(cut.await.unwrap().to_string(), format!("201 create configmaps {}/", world.namespace));
        world.api::<ConfigMap>().get("two").await.expect("the server has it all the same");
        maps.get("one").await.expect_err("nothing goes through any more");

        world.proxy.set(Mode::Pass);
        maps.get("one").await.unwrap();
        assert_eq!(world.proxy.writes().len(), 2);
        assert_eq!(world.proxy.count("create", "configmaps"), 3);
        assert_eq!(world.proxy.count("get", "configmaps"), 2);

        world.proxy.answer("get", "configmaps", 500, 1);
        let error = maps.get("one").await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 500), "{error}");
        maps.get("one").await.unwrap();
        world.proxy.quiet(Duration::from_millis(200)).await;
    });
}

#[test]
fn the_proxy_ends_watches_as_a_server_does_that_has_forgotten() {
    use futures_util::StreamExt as _;
    use kube::api::{WatchEvent, WatchParams};
    world::test(async |world| {
        let maps = kube::Api::<ConfigMap>::namespaced(client(world).await, &world.namespace);
        let mut events = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                WatchEvent::Added(map) if map.name_any() == "one" => break,
                WatchEvent::Error(status) => panic!("{status:?}"),
                _ => {}
            }
        }
        world.proxy.expire_watches();
        let last: Vec<_> = events.collect().await;
        assert!(matches!(last.as_slice(), [Ok(WatchEvent::Error(status))] if status.code == 410), "{last:?}");
    });
}

#[test]
fn the_api_server_can_be_stopped_and_started() {
    world::test_with_own_servers(async |world| {
        let namespaces = world.cluster_api::<Namespace>();
        world.servers.stop_api_server().await;
        namespaces.get(&world.namespace).await.expect_err("nobody answers");
        world.servers.start_api_server().await.unwrap();
        namespaces.get(&world.namespace).await.unwrap();
        make_deployment(world).await;
        only_pod(world, "the controller manager and the kubelet go on", |pod| is_ready(pod) == Some(true))
            .await;
    });
}

#[test]
fn the_audit_log_knows_what_the_controllers_account_asked_for() {
    world::test(async |world| {
        let maps = kube::Api::<ConfigMap>::namespaced(client(world).await, &world.namespace);
        maps.list(&ListParams::default()).await.unwrap();
        let user = world.controller_user();
        let asked = eventually("it is in the log", async || {
            Some(world.servers.audited(&user).unwrap()).filter(|asked| !asked.is_empty())
        })
        .await;
        let [access] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((access.verb.as_str(), access.resource.as_str()), ("list", "configmaps"));
        assert!(access.allowed && access.group.is_empty() && access.namespace == world.namespace);
    });
}
