//! Sluice's own allocations.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube::ResourceExt as _;
use serde_json::json;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, Network, World};
use sluice_controller::api::IPReservation;
use sluice_controller::events::EventReason;

fn addresses(reservations: &[IPReservation]) -> Vec<String> {
    reservations.iter().map(|reservation| reservation.spec.address.to_string()).collect()
}

/// Deletes a Service, and waits until its address is free.
async fn delete(world: &World, network: &Network, service: &str) {
    world.delete_service(service).await;
    eventually(&format!("what {service} held is free"), async || {
        let held = world.reservations(network).await;
        held.iter().all(|reservation| reservation.spec.service.name != service).then_some(())
    })
    .await;
}

#[test]
fn the_lowest_free_address_under_its_own_name() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        for (name, address) in [("one", "172.18.0.11"), ("two", "172.18.0.12"), ("three", "172.18.0.13")] {
            world.service(name).on(&network).create().await;
            assert_eq!(world.published(name).await, [address]);
        }
        delete(world, &network, "two").await;
        let service = world.service("four").on(&network).create().await;
        assert_eq!(world.published("four").await, ["172.18.0.12"]);

        let reservations = world.reservations(&network).await;
        let [_, reservation, _] = reservations.as_slice() else { panic!("{reservations:?}") };
        assert_eq!(reservation.name_any(), format!("{}.172-018-000-012", network.provider));
        assert_eq!(reservation.spec.address, "172.18.0.12".parse::<IpAddr>().unwrap());
        assert_eq!(reservation.spec.provider, network.provider.to_string());
        assert_eq!(reservation.spec.subnet, network.subnet);
        assert_eq!(Some(&reservation.spec.service.uid), service.metadata.uid.as_ref());
        assert_eq!(
            (reservation.spec.service.namespace.as_str(), reservation.spec.service.name.as_str()),
            (world.namespace.as_str(), "four")
        );
    });
}

#[test]
fn many_services_at_once_do_not_fight_for_the_lowest() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        for index in 0..20 {
            world.service(&format!("web-{index}")).on(&network).create().await;
        }
        controller.start().await;
        let mut given = BTreeSet::new();
        for index in 0..20 {
            given.extend(world.published(&format!("web-{index}")).await);
        }
        let expected: BTreeSet<String> = (11..31).map(|host| format!("172.18.0.{host}")).collect();
        assert_eq!(given, expected);
        assert_eq!(world.proxy.count("create", "ipreservations"), 20, "each asked once");
    });
}

#[test]
fn a_request_is_granted_even_where_it_is_excluded() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("far").on(&network).address("172.18.200.7").create().await;
        world.service("excluded").on(&network).address("172.18.0.5").create().await;
        assert_eq!(world.published("far").await, ["172.18.200.7"]);
        assert_eq!(world.published("excluded").await, ["172.18.0.5"]);
    });
}

#[test]
fn a_request_that_cannot_be_granted_is_refused_with_the_reason() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let cases = [
            ("outside", "172.19.0.1", "172.19.0.1 is outside 172.18.0.0/16"),
            ("router", "172.18.0.1", "172.18.0.1 is the gateway of 172.18.0.0/16"),
            ("broadcast", "172.18.255.255", "172.18.255.255 is the network or broadcast address"),
            ("family", "fd00::1", "fd00::1, but the Service is served by IPv4 only"),
        ];
        for (name, address, _) in cases {
            world.service(name).on(&network).address(address).create().await;
        }
        for (name, _, fault) in cases {
            let object = format!("Service {}/{name}: spec.loadBalancerIP: ", world.namespace);
            world.event(name, EventReason::Refused, &[&object, fault]).await;
        }
        assert_eq!(addresses(&world.reservations(&network).await), Vec::<String>::new());
    });
}

#[test]
fn a_conflict_names_the_holder_and_ends_with_it() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("first").on(&network).address("172.18.0.50").create().await;
        assert_eq!(world.published("first").await, ["172.18.0.50"]);
        world.service("second").on(&network).address("172.18.0.50").create().await;
        let holder = format!("172.18.0.50 is held by Service {}/first", world.namespace);
        world.event("second", EventReason::Refused, &["spec.loadBalancerIP", &holder, "use another"]).await;
        assert_eq!(world.vips("second").await, Vec::<String>::new());

        world.delete_service("first").await;
        assert_eq!(world.published("second").await, ["172.18.0.50"]);
    });
}

#[test]
fn a_full_subnet_is_told_and_the_next_free_address_goes_to_who_waits() {
    world::test(async |world| {
        let network = world.network("small", "10.7.0.0/29").gateway("10.7.0.1");
        let network = network.exclude(&["10.7.0.2..10.7.0.5"]).create().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("first").on(&network).create().await;
        assert_eq!(world.published("first").await, ["10.7.0.6"]);
        world.service("second").on(&network).create().await;
        let object = format!("Subnet {}: spec.cidrBlock: ", network.subnet);
        world.event("second", EventReason::Refused, &[&object, "no address of 10.7.0.0/29 is free"]).await;

        world.delete_service("first").await;
        assert_eq!(world.published("second").await, ["10.7.0.6"]);
    });
}

#[test]
fn an_address_stays_over_restarts_and_without_its_pod() {
    world::test(async |world| {
        let (network, mut controller) = world.serving("lower").await;
        world.service("web").on(&network).create().await;
        assert_eq!(world.published("web").await, ["172.18.0.12"]);
        delete(world, &network, "lower").await;
        let before = world.reservations(&network).await;

        controller.kill();
        let pod = world.gateway_pod("web").await;
        world.delete_pod(&pod).await;
        controller.start().await;
        assert_ne!(world.gateway_pod("web").await.uid(), pod.uid());
        assert_eq!(world.published("web").await, ["172.18.0.12"], "and not .11, which is free");
        assert_eq!(world.reservations(&network).await, before);
    });
}

#[test]
fn what_a_service_shows_it_keeps_where_nobody_has_reserved_it() {
    world::test(async |world| {
        let network = world.external_network().await;
        world.service("web").on(&network).create().await;
        // As another controller has left it.
        let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "172.18.0.77" }] } } });
        let services = world.api::<k8s_openapi::api::core::v1::Service>();
        let patch = kube::api::Patch::Merge(status);
        services.patch_status("web", &kube::api::PatchParams::default(), &patch).await.unwrap();
        let mut controller = world.controller().await;
        controller.start().await;
        world.gateway_pod("web").await;
        eventually("the address is reserved", async || {
            (addresses(&world.reservations(&network).await) == ["172.18.0.77"]).then_some(())
        })
        .await;
        assert_eq!(world.vips("web").await, ["172.18.0.77"]);
    });
}

#[test]
fn both_families_or_none() {
    world::test(async |world| {
        let network = world.network("dual", "10.8.0.0/24,fd00:8::/64").gateway("10.8.0.1,fd00:8::1");
        let network = network.exclude(&["fd00:8::..fd00:8::f"]).create().await;
        let full = world.network("full", "10.9.0.0/24,fd00:9::/126").gateway("10.9.0.1,fd00:9::1");
        let full = full.exclude(&["fd00:9::2..fd00:9::3"]).create().await;
        let mut controller = world.controller().await;
        controller.start().await;
        world.service("both").on(&network).dual_stack().create().await;
        world.service("neither").on(&full).dual_stack().create().await;
        let vips: BTreeSet<String> = world.published("both").await.into_iter().collect();
        assert_eq!(vips, ["10.8.0.2".to_owned(), "fd00:8::10".to_owned()].into());
        world.event("neither", EventReason::Refused, &["no address of fd00:9::/126 is free"]).await;
        assert_eq!(addresses(&world.reservations(&full).await), Vec::<String>::new());

        // A request for one family alone that another holds: nothing of the other family stays taken.
        world.service("third").on(&network).dual_stack().address("fd00:8::10").create().await;
        let holder = format!("fd00:8::10 is held by Service {}/both", world.namespace);
        world.event("third", EventReason::Refused, &[&holder]).await;
        assert_eq!(addresses(&world.reservations(&network).await), ["10.8.0.2", "fd00:8::10"]);
    });
}
