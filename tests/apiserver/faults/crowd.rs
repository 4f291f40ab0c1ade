//! Many Services, of which a few cannot be served.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use sluice_apiserver_tests::kubelet::Conduct;
use sluice_apiserver_tests::wait::within;
use sluice_apiserver_tests::world::{self, vips};
use sluice_controller::events::EventReason;

const SERVICES: usize = 200;
/// Many times what it takes, for machines that do other things besides.
const TIME: Duration = Duration::from_secs(300);

#[test]
fn of_two_hundred_services_two_that_cannot_be_served_delay_no_other() {
    world::test(async |world| {
        let network = world.external_network().await;
        world.kubelet.set("lb-svc-stuck-", Conduct::Pending);
        let mut controller = world.controller().await.with("--concurrency=2");
        controller.start().await;
        let start = Instant::now();
        world.service("stuck").on(&network).create().await;
        world.service("refused").on(&network).address("192.0.2.1").create().await;
        let others = (2..SERVICES).map(|number| world.service(&format!("web{number}")).on(&network).create());
        stream::iter(others).buffer_unordered(8).collect::<Vec<_>>().await;
        within(TIME, "all Services but two are published", async || {
            let served = controller.metric("sluice_controller_services{state=\"served\"}").await?;
            (served == (SERVICES - 2) as f64).then_some(())
        })
        .await;
        let services = world.api::<Service>().list(&ListParams::default()).await.unwrap();
        assert_eq!(services.iter().filter(|service| !vips(service).is_empty()).count(), SERVICES - 2);
        println!("{} Services after {:.1?}", SERVICES - 2, start.elapsed());
        world.event("stuck", EventReason::GatewayNotReady, &["lb-svc-stuck"]).await;
        world.event("refused", EventReason::Refused, &["spec.loadBalancerIP", "192.0.2.1"]).await;
        let held = world.reservations(&network).await;
        assert_eq!(
            held.len(),
            SERVICES - 1,
            "the one that is stuck has an address, the one that is refused has none"
        );

        world.proxy.quiet(Duration::from_secs(2)).await;
        controller.kill();
        world.patch_service("web2", json!({ "metadata": { "finalizers": Value::Null } })).await;
        world.delete_service("web2").await;
        world.gone::<Service>("web2").await;
        world.proxy.clear();
        controller.start().await;
        let address =
            |name: &str| held.iter().find(|held| held.spec.service.name == name).unwrap().name_any();
        let orphan = address("web2");
        within(TIME, "the address of the Service that went meanwhile is freed", async || {
            let held = world.reservations(&network).await;
            held.iter().all(|held| held.name_any() != orphan).then_some(())
        })
        .await;
        world.proxy.quiet(Duration::from_secs(2)).await;
        let writes: Vec<String> = world.proxy.writes().iter().map(ToString::to_string).collect();
        assert_eq!(writes, [format!("200 delete ipreservations /{orphan}")], "nothing else is written");
    });
}
