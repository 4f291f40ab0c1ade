//! What many Services cost the API server: `cargo xtask bench controller` in small.

use std::time::Duration;

use sluice_apiserver_tests::load::WriteLog;
use sluice_apiserver_tests::{wait, world};

const SERVICES: usize = 50;

#[test]
fn many_services_cost_six_writes_each_and_then_none() {
    world::test(async |world| {
        let mut log = WriteLog::of(world);
        let network = world.external_network().await;
        // Each Service is looked at again and again in the steady state.
        let mut controller = world.controller().await.with("--resync=2s");
        controller.start().await;
        let published = world.all_published(SERVICES, |_| ());
        tokio::join!(world.create_services(&network, SERVICES, false), published);

        let at_rest = log.at_rest(Duration::from_secs(5)).await;
        let (count, sorted) = (at_rest.len(), world.sort_writes(at_rest).await);
        assert_eq!(sorted.by_service.len(), SERVICES);
        assert!(sorted.most() <= 6, "{sorted:#?}");
        assert!(sorted.others.is_empty(), "{sorted:#?}");

        controller.terminate();
        controller.start().await;
        wait::eventually("the restarted controller has looked at every Service", async || {
            let passes = controller.metric("sluice_controller_reconcile_duration_seconds_count").await?;
            (passes >= SERVICES as f64).then_some(())
        })
        .await;
        let after = log.at_rest(Duration::from_secs(2)).await;
        assert!(after.len() == count, "written after a restart: {:#?}", &after[count..]);
    });
}

#[test]
fn a_dual_stack_service_costs_seven_writes() {
    world::test(async |world| {
        let mut log = WriteLog::of(world);
        let builder = world.network("external", "172.18.0.0/16,2001:db8::/64");
        let network = builder.gateway("172.18.0.1,2001:db8::1").create().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.create_services(&network, 1, true).await;
        world.all_published(1, |_| ()).await;
        let sorted = world.sort_writes(log.at_rest(Duration::from_secs(2)).await).await;
        assert!(sorted.by_service.len() == 1 && sorted.most() <= 7, "{sorted:#?}");
    });
}
