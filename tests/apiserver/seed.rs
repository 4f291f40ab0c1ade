//! The example of Kube-OVN's documentation, as its users have it.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_apiserver_tests::world;
use sluice_controller::events::EventReason;

const NETWORK: &str = include_str!("../../docs/examples/seed/network-attachment-definition.yaml");
const SUBNET: &str = include_str!("../../docs/examples/seed/subnet.yaml");
const SERVICE: &str = include_str!("../../docs/examples/seed/service.yaml");
/// The line that asks for an address, which users may leave out.
const ADDRESS: &str = "  loadBalancerIP: ";

/// Fails unless `live` has everything that is `shown`. A list must be shown in full.
fn assert_shows(live: &Value, shown: &Value, path: &str) {
    match (live, shown) {
        (Value::Object(live), Value::Object(shown)) => {
            for (key, value) in shown {
                assert_shows(live.get(key).unwrap_or(&Value::Null), value, &format!("{path}.{key}"));
            }
        }
        (Value::Array(live), Value::Array(shown)) => {
            assert_eq!(live.len(), shown.len(), "{path}: {live:?}");
            for (index, (live, shown)) in live.iter().zip(shown).enumerate() {
                assert_shows(live, shown, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(live, shown, "{path}"),
    }
}

fn assert_object_shows<K: Resource<DynamicType = ()> + Serialize>(object: &K, shown: &Value) {
    assert_shows(&serde_json::to_value(object).unwrap(), shown, &K::kind(&()));
}

/// What the example prints of the Service, apart from what the API server chooses and what Kube-OVN's own controller adds.
fn shown_service(address: &str) -> Value {
    json!({
        "metadata": {
            "annotations": { "lb-svc-attachment.kube-system.kubernetes.io/logical_switch": "attach-subnet" },
            "labels": { "app": "dynamic" },
            "name": "test-service",
            "namespace": "default",
        },
        "spec": {
            "allocateLoadBalancerNodePorts": true,
            "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{ "name": "test", "port": 80, "protocol": "TCP", "targetPort": 80 }],
            "selector": { "app": "dynamic" },
            "sessionAffinity": "None",
            "type": "LoadBalancer",
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": address }] } },
    })
}

/// What it prints of the pod, for the network of its manifests (the printed pod is of another one). Left out: what Multus and Kube-OVN write of the
/// interfaces that they made.
fn shown_pod(address: &str) -> Value {
    json!({
        "metadata": { "annotations": {
            "k8s.v1.cni.cncf.io/networks": "kube-system/lb-svc-attachment",
            "lb-svc-attachment.kube-system.kubernetes.io/allocated": "true",
            "lb-svc-attachment.kube-system.kubernetes.io/cidr": "172.18.0.0/16",
            "lb-svc-attachment.kube-system.kubernetes.io/gateway": "172.18.0.1",
            "lb-svc-attachment.kube-system.kubernetes.io/ip_address": address,
            "lb-svc-attachment.kube-system.kubernetes.io/logical_switch": "attach-subnet",
        } },
    })
}

fn shown_gateway_file(address: &str, cluster_ip: &str) -> Value {
    json!({ "services": [{
        "name": "default/test-service",
        "vips": [{ "address": format!("{address}/16"), "gateway": "172.18.0.1" }],
        "targets": [cluster_ip],
        "ports": [{ "name": "test", "protocol": "TCP", "port": 80 }],
    }] })
}

#[test]
fn its_manifests_byte_for_byte() {
    world::test_in("default", async |world| {
        let mut controller = world.controller().await;
        controller.start().await;
        let asks: Vec<&str> =
            SERVICE.split_inclusive('\n').filter(|line| line.starts_with(ADDRESS)).collect();
        let [line] = asks.as_slice() else { panic!("the example asks for one address: {asks:?}") };
        let dynamic = SERVICE.replace(line, "");
        for manifest in [NETWORK, SUBNET] {
            world.apply(manifest).await;
        }
        // The addresses that the example ends with: the one that is asked for, and the lowest that is not excluded.
        for (manifest, address) in [(SERVICE, "172.18.0.18"), (&dynamic, "172.18.0.11")] {
            world.apply(manifest).await;
            assert_eq!(world.published("test-service").await, [address]);
            let service = world.get_service("test-service").await;
            assert_object_shows(&service, &shown_service(address));
            let pod: Pod = world.gateway_pod("test-service").await;
            assert_object_shows(&pod, &shown_pod(address));
            // Deployment, ReplicaSet and pod each add a part.
            let name = pod.metadata.name.unwrap();
            assert_eq!(
                name.strip_prefix("lb-svc-test-service-").map(|rest| rest.split('-').count()),
                Some(2),
                "{name}"
            );

            let map: ConfigMap = world.api().get("lb-svc-test-service").await.unwrap();
            let text = &map.data.unwrap()["gateway.yaml"];
            sluice_gateway::config::parse("gateway.yaml", text).expect("the gateway takes its file");
            let file: Value = serde_saphyr::from_str(text).unwrap();
            assert_shows(
                &file,
                &shown_gateway_file(address, &service.spec.unwrap().cluster_ip.unwrap()),
                "file",
            );

            // Multus will refuse the example's network for the comment in its JSON.
            world
                .event("test-service", EventReason::CommentInNetwork, &["kube-system/lb-svc-attachment"])
                .await;
            world.delete_service("test-service").await;
            world.gone::<Service>("test-service").await;
        }
    });
}
