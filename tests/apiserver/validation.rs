//! What is wrong with a Service is told as an Event that names field, value and fix.

use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{self, Network, ServiceBuilder, World, annotate};
use sluice_controller::api::annotation::{ATTACHMENT_PROVIDER, logical_switch};
use sluice_controller::api::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec};
use sluice_controller::events::EventReason;

/// Changes the spec of a Service that is going to be made.
fn with(edit: impl FnOnce(&mut ServiceSpec)) -> impl FnOnce(&mut Service) {
    |service| edit(service.spec.get_or_insert_default())
}

/// A Service that is wrong, and what its Event has to say.
type Case<'w> = (ServiceBuilder<'w>, Vec<String>);

fn cases<'w>(world: &'w World, network: &Network, six: &Network) -> Vec<(&'static str, Case<'w>)> {
    let said = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let provider = format!("metadata.annotations[{ATTACHMENT_PROVIDER}]");
    let switch = format!("metadata.annotations[{}]", logical_switch(&network.provider));
    let missing = format!("missing.{}", world.namespace);
    let address = |text: &'static str| {
        move |service: &mut Service| {
            service.spec.get_or_insert_default().load_balancer_ip = Some(text.to_owned());
        }
    };
    vec![
        (
            "provider-form",
            (
                world.service("provider-form").annotate(ATTACHMENT_PROVIDER, "external"),
                said(&[&provider, "`external`", "write <name>.<namespace>"]),
            ),
        ),
        (
            "no-network",
            (
                world.service("no-network").annotate(ATTACHMENT_PROVIDER, &missing),
                said(&[&provider, &missing, "create missing in namespace"]),
            ),
        ),
        (
            "no-subnet",
            (
                world
                    .service("no-subnet")
                    .on(network)
                    .annotate(&logical_switch(&network.provider), "nowhere"),
                said(&[&switch, "`nowhere`", "create it, or name another"]),
            ),
        ),
        (
            "others-subnet",
            (
                world
                    .service("others-subnet")
                    .on(network)
                    .annotate(&logical_switch(&network.provider), &six.subnet),
                said(&[
                    &switch,
                    &six.subnet,
                    &six.provider.to_string(),
                    "name a Subnet of the Service's provider",
                ]),
            ),
        ),
        (
            "outside",
            (
                world.service("outside").on(network).address("10.9.9.9"),
                said(&["spec.loadBalancerIP", "10.9.9.9", "172.18.0.0/16"]),
            ),
        ),
        (
            "the-router",
            (
                world.service("the-router").on(network).address("172.18.0.1"),
                said(&["spec.loadBalancerIP", "172.18.0.1", "gateway"]),
            ),
        ),
        (
            "no-host",
            (
                world.service("no-host").on(network).address("172.18.255.255"),
                said(&["spec.loadBalancerIP", "172.18.255.255", "broadcast"]),
            ),
        ),
        (
            "no-address",
            (
                world.service("no-address").on(network).edit(address("soon")),
                said(&["spec.loadBalancerIP", "`soon`", "address"]),
            ),
        ),
        (
            "taken",
            (
                world.service("taken").on(network).address("172.18.0.11"),
                said(&["spec.loadBalancerIP", "172.18.0.11", &format!("{}/holder", world.namespace)]),
            ),
        ),
        (
            "family",
            (
                world.service("family").on(six),
                said(&["spec.ipFamilies", "IPv4", "fd00:18::/64", "change the Service's families"]),
            ),
        ),
        (
            "both-families",
            (
                world.service("both-families").on(network).dual_stack(),
                said(&["spec.ipFamilies", "IPv4 and IPv6", "172.18.0.0/16"]),
            ),
        ),
        (
            "ranges",
            (
                world.service("ranges").on(network).edit(with(|spec| {
                    spec.load_balancer_source_ranges = Some(vec!["fd00::/8".to_owned()]);
                })),
                said(&["spec.loadBalancerSourceRanges", "fd00::/8", "remove the field"]),
            ),
        ),
    ]
}

#[test]
fn each_refusal_names_field_value_and_fix_and_is_told_once() {
    world::test(async |world| {
        let network = world.external_network().await;
        let six = world.network("six", "fd00:18::/64").create().await;
        let mut controller = world.controller().await.with("--resync=500ms");
        controller.start().await;
        world.service("holder").on(&network).create().await;
        assert_eq!(world.published("holder").await, ["172.18.0.11"]);
        let mut expected = Vec::new();
        for (name, (service, parts)) in cases(world, &network, &six) {
            service.create().await;
            expected.push((name, parts));
        }
        for (name, parts) in &expected {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let text = world.event(name, EventReason::Refused, &parts).await;
            assert!(text.contains(name) || text.starts_with("Subnet "), "{text}");
        }
        let passes =
            async || controller.metric("sluice_controller_reconcile_duration_seconds_count").await.unwrap();
        let (before, enough) = (passes().await, 3.0 * expected.len() as f64);
        wait::eventually("each was judged again", async || (passes().await >= before + enough).then_some(()))
            .await;
        for (name, _) in &expected {
            let told = world.events(name).await;
            assert_eq!(told.len(), 1, "{name}: {told:?}");
            assert!(world.vips(name).await.is_empty(), "{name}");
            assert!(world.deployment(name).await.is_none(), "{name}");
        }
        // Nothing was taken for those that are refused.
        assert_eq!(world.reservations(&network).await.len(), 1);
        assert_eq!(world.reservations(&six).await, []);
    });
}

#[test]
fn advice_names_field_value_and_fix_and_keeps_nothing_from_being_served() {
    world::test(async |world| {
        let network = world.external_network().await;
        let commented = NetworkAttachmentDefinitionSpec {
            config: "{\"type\": \"macvlan\", // the card\n\"master\": \"eth0\"}".to_owned(),
        };
        let second = world.network("second", "10.1.0.0/24").create().await;
        let patch = Patch::Merge(json!({"spec": {"config": commented.config}}));
        world
            .api::<NetworkAttachmentDefinition>()
            .patch("second", &PatchParams::default(), &patch)
            .await
            .unwrap();
        let mut controller = world.controller().await.with("--resync=500ms");
        controller.start().await;
        let advised = [
            (
                world
                    .service("affinity")
                    .on(&network)
                    .edit(with(|spec| spec.session_affinity = Some("ClientIP".to_owned()))),
                EventReason::SessionAffinityIgnored,
                ["spec.sessionAffinity: ClientIP", "set it to None"],
            ),
            (
                world
                    .service("external")
                    .on(&network)
                    .edit(with(|spec| spec.external_traffic_policy = Some("Local".to_owned()))),
                EventReason::ExternalTrafficPolicyIgnored,
                ["spec.externalTrafficPolicy: Local", "set it to Cluster"],
            ),
            (
                world
                    .service("internal")
                    .on(&network)
                    .edit(with(|spec| spec.internal_traffic_policy = Some("Local".to_owned()))),
                EventReason::InternalTrafficPolicyLocal,
                ["spec.internalTrafficPolicy: Local", "set it to Cluster"],
            ),
            (
                world.service("comment").on(&second),
                EventReason::CommentInNetwork,
                ["second: spec.config: a `//` comment", "remove it"],
            ),
            (
                world.service("misspelt").on(&network).annotate("sluice.io/maxflows", "64"),
                EventReason::UnknownAnnotation,
                ["metadata.annotations[sluice.io/maxflows]", "sluice.io/max-flows"],
            ),
        ];
        let mut told = Vec::new();
        for (service, reason, parts) in advised {
            let name = service.create().await.name_any();
            told.push((name, reason, parts));
        }
        for (name, reason, parts) in &told {
            world.event(name, *reason, parts).await;
            world.published(name).await;
        }
        let passes =
            async || controller.metric("sluice_controller_reconcile_duration_seconds_count").await.unwrap();
        let before = passes().await;
        wait::eventually("each was judged again", async || (passes().await >= before + 15.0).then_some(()))
            .await;
        let count = async |name: &str, reason: EventReason| {
            world.events(name).await.iter().filter(|(found, _)| found == reason.as_str()).count()
        };
        for (name, reason, _) in &told {
            assert_eq!(count(name, *reason).await, 1, "{name}");
        }
        // Advice that was followed is given again when it is due again.
        let affinity = |value: &str| json!({"spec": {"sessionAffinity": value}});
        world.patch_service("affinity", affinity("None")).await;
        let before = passes().await;
        wait::eventually("it was judged again", async || (passes().await >= before + 15.0).then_some(()))
            .await;
        world.patch_service("affinity", affinity("ClientIP")).await;
        wait::eventually("it is told again", async || {
            (count("affinity", EventReason::SessionAffinityIgnored).await == 2).then_some(())
        })
        .await;
    });
}

/// The API server itself refuses these, so that nobody has to be told afterwards.
#[test]
fn what_the_api_server_refuses_needs_no_event() {
    world::test(async |world| {
        let network = world.external_network().await;
        let api = world.api::<Service>();
        let refused = async |service: Service, field: &str| {
            let error = api.create(&PostParams::default(), &service).await.unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        };
        let service = || world.service("web").on(&network);
        refused(service().edit(with(|spec| spec.ports = Some(Vec::new()))).build(), "spec.ports").await;
        refused(service().port_to("ICMP", 80, 80).build(), "spec.ports[0].protocol").await;
        refused(
            service()
                .edit(with(|spec| spec.load_balancer_source_ranges = Some(vec!["everybody".to_owned()])))
                .build(),
            "LoadBalancerSourceRanges",
        )
        .await;
    });
}

/// What a Service is served with.
async fn serving(world: &World) -> (Vec<String>, Option<String>, Option<String>) {
    let pod: Pod = world.gateway_pod("web").await;
    (world.vips("web").await, world.gateway_file("web").await, pod.uid())
}

#[test]
fn a_bad_edit_leaves_what_is_served() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--grace-period=0s");
        controller.start().await;
        world.service("web").on(&network).create().await;
        world.published("web").await;
        let before = serving(world).await;
        let provider = network.provider.to_string();
        let edits = [
            (
                json!({"spec": {"loadBalancerIP": "10.9.9.9"}}),
                json!({"spec": {"loadBalancerIP": null}}),
                "10.9.9.9",
            ),
            (
                annotate(ATTACHMENT_PROVIDER, "nonsense"),
                annotate(ATTACHMENT_PROVIDER, provider.as_str()),
                "`nonsense`",
            ),
            (annotate("sluice.io/max-flows", "many"), annotate("sluice.io/max-flows", Value::Null), "`many`"),
            (
                json!({"spec": {"loadBalancerSourceRanges": ["fd00::/8"]}}),
                json!({"spec": {"loadBalancerSourceRanges": null}}),
                "fd00::/8",
            ),
        ];
        for (bad, good, told) in edits {
            world.patch_service("web", bad).await;
            world.event("web", EventReason::Refused, &[told]).await;
            assert_eq!(serving(world).await, before, "{told}");
            world.patch_service("web", good).await;
        }
        let spec = |spec: Value| json!({ "spec": spec });
        world.patch_subnet(&network, spec(json!({"gateway": "10.0.0.1"}))).await;
        world.event("web", EventReason::Refused, &["Subnet ", "spec.gateway", "10.0.0.1"]).await;
        world
            .patch_subnet(&network, spec(json!({"gateway": "172.18.0.1", "cidrBlock": "172.18.0.0/29"})))
            .await;
        world.event("web", EventReason::Refused, &["172.18.0.11", "172.18.0.0/29"]).await;
        world.patch_subnet(&network, spec(json!({"cidrBlock": "172.18.0.0/16"}))).await;
        let networks = world.api::<NetworkAttachmentDefinition>();
        let definition = networks.get("external").await.unwrap();
        networks.delete("external", &DeleteParams::default()).await.unwrap();
        world.event("web", EventReason::Refused, &["there is no such NetworkAttachmentDefinition"]).await;
        assert_eq!(serving(world).await, before);

        let again = NetworkAttachmentDefinition::new("external", definition.spec);
        networks.create(&PostParams::default(), &again).await.unwrap();
        world.patch_service("web", json!({"spec": {"ports": [{"name": "alt", "port": 81}]}})).await;
        world.gateway_told("web", "/ports/0/port", json!(81)).await;
        let after = serving(world).await;
        assert_eq!((after.0, after.2), (before.0, before.2));
    });
}
