//! The admission policy refuses, while the author looks on, what the controller would refuse later, and nothing else.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, World};

const POLICY: &str = include_str!("../../deploy/chart/sluice/files/policy.yaml");
const PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";

fn service(name: &str, annotations: &Value, spec: &Value) -> Service {
    let mut service = json!({ "metadata": { "name": name, "annotations": annotations }, "spec": spec });
    service["spec"]["ports"] = json!([{ "port": 80 }]);
    serde_json::from_value(service).unwrap()
}

/// What the API server says to a Service of this kind: its refusal.
async fn refusal(services: &Api<Service>, name: &str, annotations: Value, spec: Value) -> Option<String> {
    match services.create(&PostParams::default(), &service(name, &annotations, &spec)).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Waits until the API server goes by the policy, which it learns of a moment after it is made.
async fn install(world: &World) -> Api<Service> {
    world.apply(POLICY).await;
    let services = world.api::<Service>();
    eventually("the policy is in force", async || {
        let refused =
            refusal(&services, "probe", json!({ PROVIDER: "nowhere" }), json!({ "type": "LoadBalancer" }))
                .await;
        if refused.is_none() {
            services.delete("probe", &DeleteParams::default()).await.unwrap();
        }
        refused
    })
    .await;
    services
}

#[test]
fn what_is_wrong_in_a_service_alone_is_refused_at_once() {
    // A policy concerns all namespaces, so it needs servers of its own.
    world::test_with_own_servers(async |world| {
        let services = install(world).await;
        let policy = world.cluster_api::<ValidatingAdmissionPolicy>().get("sluice-services").await.unwrap();
        let checked = policy.status.and_then(|status| status.type_checking);
        assert_eq!(checked.and_then(|checked| checked.expression_warnings), None);

        let ours = |address: &str| json!({ "type": "LoadBalancer", "loadBalancerIP": address });
        let class = |class: &str| json!({ "type": "LoadBalancer", "loadBalancerClass": class });
        let at = |provider: &str| json!({ PROVIDER: provider });
        let none = json!({});
        let cases = [
            ("no-namespace", at("net"), ours(""), Some(("metadata.annotations", "`net`"))),
            (
                "three-parts",
                at("net.default.ovn"),
                ours(""),
                Some(("metadata.annotations", "`net.default.ovn`")),
            ),
            ("no-provider", none.clone(), class("sluice.io/lb-svc"), Some(("metadata.annotations", "``"))),
            ("no-address", at("net.default"), ours("172.18.0"), Some(("spec.loadBalancerIP", "`172.18.0`"))),
            ("good", at("net.default"), ours(""), None),
            ("padded", at(" net.default "), ours("172.18.0.18"), None),
            ("two-families", at("net.default"), ours("172.18.0.18, fd00::18"), None),
            ("our-class", at("net.default"), class("sluice.io/lb-svc"), None),
            ("no-business-of-ours", none.clone(), ours("whatever"), None),
            ("other-class", at("net"), class("example.com/other"), None),
            ("no-load-balancer", at("net"), json!({}), None),
        ];
        for (name, annotations, spec, expected) in cases {
            let refused = refusal(&services, name, annotations, spec).await;
            match (expected, refused) {
                (None, None) => {}
                (Some((field, value)), Some(refusal)) => {
                    assert!(refusal.contains(field) && refusal.contains(value), "{name}: {refusal}");
                }
                (expected, refused) => panic!("{name}: expected {expected:?}, not {refused:?}"),
            }
        }
    });
}

#[test]
fn a_service_that_was_wrong_before_the_policy_can_be_labelled_and_deleted() {
    world::test_with_own_servers(async |world| {
        let services = world.api::<Service>();
        let mut wrong = service("wrong", &json!({ PROVIDER: "net" }), &json!({ "type": "LoadBalancer" }));
        wrong.finalizers_mut().push("example.com/held".to_owned());
        services.create(&PostParams::default(), &wrong).await.unwrap();
        install(world).await;

        let patch = async |patch: Value| {
            services.patch("wrong", &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
        };
        patch(json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
        patch(json!({ "spec": { "sessionAffinity": "ClientIP" } }))
            .await
            .expect_err("an edit that leaves it wrong");
        services.delete("wrong", &DeleteParams::default()).await.unwrap();
        patch(json!({ "metadata": { "finalizers": null } })).await.unwrap();
        world.gone::<Service>("wrong").await;
    });
}
