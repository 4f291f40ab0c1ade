//! The API server is away for a minute.

use std::time::Duration;

use kube::ResourceExt as _;
use serde_json::json;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world;

/// For how long.
const OUTAGE: Duration = Duration::from_secs(60);
/// Between two looks at the controller, as what starts it anew where it runs.
const LOOK: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_withdrawn_while_the_api_server_is_away_nor_when_it_is_back() {
    world::test_with_own_servers(async |world| {
        let network = world.external_network().await;
        // Much shorter than the outage.
        let mut controller = world.controller().await.with("--leader-elect=true").with("--grace-period=2s");
        controller.start().await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        world.proxy.quiet(Duration::from_secs(1)).await;
        let (service, pod) = (world.get_service("web").await, world.gateway_pod("web").await);
        let events = world.proxy.count("create", "events");
        world.proxy.clear();

        world.servers.stop_api_server().await;
        let mut ends = 0;
        for _ in 0..OUTAGE.as_secs() / LOOK.as_secs() {
            tokio::time::sleep(LOOK).await;
            if let Some(status) = controller.ended() {
                assert!(!status.success(), "a leader that lost its lease says so");
                ends += 1;
                controller.kill();
                controller.launch();
            }
        }
        assert!(controller.ended().is_none(), "one that does not lead waits");
        assert_eq!(ends, 1, "it ended when its lease did");
        assert!(!controller.is_ready().await);
        world.servers.start_api_server().await.unwrap();

        controller.ready().await;
        eventually("it leads again", async || {
            (controller.metric("sluice_controller_leader").await == Some(1.0)).then_some(())
        })
        .await;
        world.proxy.quiet(Duration::from_secs(3)).await;
        let writes: Vec<String> = world.proxy.writes().iter().map(ToString::to_string).collect();
        assert_eq!(writes, [""; 0]);
        assert_eq!(world.proxy.count("create", "events"), 0, "after {events} before");
        let unchanged = world.get_service("web").await;
        assert_eq!(unchanged.resource_version(), service.resource_version());
        assert_eq!(world.gateway_pod("web").await.uid(), pod.uid());

        let ports = json!([{ "name": "http", "port": 80 }, { "name": "more", "port": 8080 }]);
        world.patch_service("web", json!({ "spec": { "ports": ports } })).await;
        eventually("what changes is applied", async || {
            (world.proxy.count("patch", "configmaps") == 1 && world.proxy.count("patch", "pods") == 1)
                .then_some(())
        })
        .await;
        assert_eq!(world.gateway_pod("web").await.uid(), pod.uid());
    });
}
