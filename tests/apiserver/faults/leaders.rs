//! Several controllers, of which one leads and writes.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use sluice_apiserver_tests::controller::Controller;
use sluice_apiserver_tests::proxy::{Mode, Proxy};
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};

/// A candidate whose lease lasts `duration` seconds. It renews, and looks at the lease of another, more than once a second.
async fn candidate(world: &World, proxy: &Proxy, duration: u32) -> Controller {
    let controller = world.controller_through(proxy).await.with("--leader-elect=true");
    controller
        .with(&format!("--lease-duration={duration}s"))
        .with(&format!("--lease-renew-deadline={}s", duration - 1))
        .with("--lease-retry-period=400ms")
}

async fn leads(controller: &Controller) -> bool {
    controller.metric("sluice_controller_leader").await == Some(1.0)
}

async fn takes_over(controller: &Controller) -> Instant {
    eventually("the other controller leads", async || leads(controller).await.then(Instant::now)).await
}

/// Everything that was written through `proxy`, the lease and Events included.
fn all_writes(proxy: &Proxy) -> Vec<String> {
    let exchanges = proxy.exchanges();
    let accepted = exchanges.iter().filter(|e| e.route.is_write() && (200..300).contains(&e.code));
    accepted.map(ToString::to_string).collect()
}

#[test]
fn a_lease_that_is_given_up_is_taken_at_once_and_only_its_holder_writes() {
    world::test(async |world| {
        let network = world.external_network().await;
        let (first_proxy, second_proxy) = (&world.proxy, Proxy::start(&world.servers).await);
        let mut first = candidate(world, first_proxy, 60).await;
        first.start().await;
        takes_over(&first).await;
        let mut second = candidate(world, &second_proxy, 60).await;
        second.start().await;
        assert!(!leads(&second).await, "it stands by, and is ready");

        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
        assert_eq!(all_writes(&second_proxy), [""; 0]);

        assert!(first.terminate().success());
        let given_up = Instant::now();
        let taken = takes_over(&second).await;
        assert!(taken - given_up < Duration::from_secs(20), "after {:?}", taken - given_up);
        let port = json!([{ "name": "more", "port": 8080 }]);
        world.patch_service("web", json!({ "spec": { "ports": port } })).await;
        eventually("the new leader writes", async || {
            (second_proxy.count("patch", "configmaps") == 1).then_some(())
        })
        .await;
        assert_eq!(world.vips("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn the_lease_of_a_leader_that_was_killed_is_taken_when_it_is_over() {
    world::test(async |world| {
        let network = world.external_network().await;
        let second_proxy = Proxy::start(&world.servers).await;
        let mut first = candidate(world, &world.proxy, 5).await;
        first.start().await;
        takes_over(&first).await;
        let mut second = candidate(world, &second_proxy, 5).await;
        second.start().await;

        first.kill();
        let killed = Instant::now();
        let waited = takes_over(&second).await - killed;
        // It was renewed less than a renewal's period before, and a request's time.
        assert!(waited > Duration::from_secs(3), "after {waited:?} the first might still be writing");
        assert!(waited < Duration::from_secs(15), "after {waited:?}");
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.11"]);
    });
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_writes_nothing_when_it_goes_on() {
    const SERVICES: usize = 20;
    world::test(async |world| {
        let network = world.external_network().await;
        let second_proxy = Proxy::start(&world.servers).await;
        let mut first = candidate(world, &world.proxy, 8).await;
        first.start().await;
        takes_over(&first).await;
        let mut second = candidate(world, &second_proxy, 8).await;
        second.start().await;
        // What is left to be done stays so.
        second_proxy.answer("patch", "services", 500, usize::MAX);
        world.proxy.quiet(Duration::from_millis(300)).await;

        // In the middle of passes: each has asked for its Service, and will write when it gets the answer.
        world.proxy.set(Mode::Hold);
        for number in 0..SERVICES {
            world.service(&format!("web{number}")).on(&network).create().await;
        }
        eventually("a pass of each Service waits", async || (world.proxy.held() >= SERVICES).then_some(()))
            .await;
        assert!(leads(&first).await, "it was too slow: the lease is over");
        first.suspend();
        takes_over(&second).await;

        world.proxy.clear();
        world.proxy.set(Mode::Pass);
        // Other requests waited among them.
        eventually("most of the passes have their answers", async || {
            (world.proxy.count("get", "services") >= SERVICES / 2).then_some(())
        })
        .await;
        first.resume();
        let status = eventually("the former leader ends", async || first.ended()).await;
        assert!(!status.success());
        // What it had sent before may still have been on its way: the lease, and what Subnets say of their use.
        let writes: Vec<String> = world.proxy.writes().iter().map(ToString::to_string).collect();
        assert_eq!(writes, [""; 0]);
        assert_eq!(world.proxy.count("create", "events"), 0);
    });
}

/// The lease of another whose clock is off by `skew`.
fn spec(skew: SignedDuration) -> LeaseSpec {
    let time = MicroTime(Timestamp::now().checked_add(skew).unwrap());
    LeaseSpec {
        holder_identity: Some("another".to_owned()),
        lease_duration_seconds: Some(3),
        renew_time: Some(time.clone()),
        acquire_time: Some(time),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_holder_whose_clock_is_a_day_behind_keeps_its_lease_while_it_renews() {
    another_holds_the_lease(SignedDuration::from_hours(-24));
}

#[test]
fn a_holder_whose_clock_is_a_day_ahead_loses_its_lease_when_it_is_silent() {
    another_holds_the_lease(SignedDuration::from_hours(24));
}

fn another_holds_the_lease(skew: SignedDuration) {
    world::test(async |world| {
        let name = format!("sluice-controller-{}", world.namespace);
        let leases = world.api::<Lease>();
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec(skew)) };
        leases.create(&PostParams::default(), &lease).await.unwrap();
        let mut controller = candidate(world, &world.proxy, 3).await;
        controller.start().await;

        let mut renewals = tokio::time::interval(Duration::from_millis(500));
        for _ in 0..16 {
            renewals.tick().await;
            let renewed = json!({ "spec": spec(skew) });
            leases.patch(&name, &PatchParams::default(), &Patch::Merge(renewed)).await.unwrap();
            assert!(!leads(&controller).await, "two lead");
        }
        let last = Instant::now();
        let waited = takes_over(&controller).await - last;
        assert!(waited > Duration::from_secs(2), "after {waited:?}");
        assert!(waited < Duration::from_secs(13), "after {waited:?}");
    });
}
