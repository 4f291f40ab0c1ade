//! What a Service gets: Deployment and ConfigMap, as the API server stores them.

use serde_json::{Value, json};
use sluice_apiserver_tests::world::{self, World, annotate};
use sluice_controller::events::EventReason;

/// Fields of an object, by JSON pointers.
#[track_caller]
fn has(object: &Value, fields: &[(&str, Value)]) {
    for (pointer, expected) in fields {
        assert_eq!(object.pointer(pointer), Some(expected), "{pointer} of\n{object:#}");
    }
}

async fn stored_deployment(world: &World, service: &str) -> Value {
    serde_json::to_value(world.deployment(service).await.unwrap()).unwrap()
}

#[test]
fn every_field_of_the_deployment() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await.with("--gateway-image=example.com/sluice-gateway:7");
        controller.start().await;
        let service = world.service("web").on(&network).subnet(&network);
        let service = service.annotate("ovn.kubernetes.io/logical_switch", "tenant").create().await;
        world.published("web").await;

        let (namespace, uid) = (world.namespace.as_str(), service.metadata.uid.unwrap());
        let labels = json!({"app": "lb-svc-web", "namespace": namespace, "service": "web"});
        let mut all_labels = labels.clone();
        all_labels["app.kubernetes.io/managed-by"] = "sluice-controller".into();
        let owner =
            json!([{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": uid, "controller": true}]);
        let deployment = stored_deployment(world, "web").await;
        has(
            &deployment,
            &[
                ("/metadata/name", json!("lb-svc-web")),
                ("/metadata/labels", all_labels.clone()),
                ("/metadata/ownerReferences", owner.clone()),
                ("/spec/replicas", json!(1)),
                ("/spec/strategy", json!({"type": "Recreate"})),
                ("/spec/selector", json!({"matchLabels": labels})),
                ("/spec/template/metadata/labels", all_labels.clone()),
            ],
        );
        let provider = network.provider.to_string();
        let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
        has(
            annotations,
            &[
                ("/k8s.v1.cni.cncf.io~1networks", json!(format!("{namespace}/external"))),
                (&format!("/{provider}.kubernetes.io~1logical_switch"), json!(network.subnet)),
                ("/ovn.kubernetes.io~1logical_switch", json!("tenant")),
            ],
        );
        let taint = |name: &str| {
            let key = format!("node.kubernetes.io/{name}");
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5})
        };
        let pod = &deployment["spec"]["template"]["spec"];
        has(
            pod,
            &[
                ("/automountServiceAccountToken", json!(false)),
                ("/enableServiceLinks", json!(false)),
                ("/tolerations", json!([taint("not-ready"), taint("unreachable")])),
                ("/terminationGracePeriodSeconds", json!(5)),
                ("/securityContext", json!({"seccompProfile": {"type": "RuntimeDefault"}})),
            ],
        );
        for absent in
            ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "initContainers", "nodeSelector"]
        {
            assert_eq!(pod.get(absent), None, "{absent}");
        }
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
        let container = &pod["containers"][0];
        let exec = |command: &str| json!({"command": ["/sluice-gateway", command]});
        has(
            container,
            &[
                ("/image", json!("example.com/sluice-gateway:7")),
                ("/securityContext/privileged", json!(false)),
                ("/securityContext/allowPrivilegeEscalation", json!(false)),
                ("/securityContext/readOnlyRootFilesystem", json!(true)),
                (
                    "/securityContext/capabilities",
                    json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]}),
                ),
                ("/env/0/name", json!("SLUICE_GATEWAY_ID")),
                ("/env/0/valueFrom/fieldRef/fieldPath", json!("metadata.uid")),
                ("/startupProbe/exec", exec("live")),
                ("/readinessProbe/exec", exec("ready")),
                ("/livenessProbe/exec", exec("live")),
                // 262144 flows of 192 bytes, and 70 MiB: docs/memory.md.
                ("/resources/limits/memory", json!("118Mi")),
                ("/resources/requests/memory", json!("118Mi")),
            ],
        );
        // The file's folder, the node's BPF file system, and room for sockets: nothing else of the node.
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = |name: &str| volumes.iter().find(|volume| volume["name"] == name).unwrap();
        has(volume("config"), &[("/configMap/name", json!("lb-svc-web"))]);
        has(volume("bpffs"), &[("/hostPath", json!({"path": "/sys/fs/bpf", "type": "Directory"}))]);
        has(volume("run"), &[("/emptyDir/medium", json!("Memory"))]);
        assert_eq!(volumes.len(), 3);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = |name: &str| mounts.iter().find(|mount| mount["name"] == name).unwrap();
        has(mount("config"), &[("/mountPath", json!("/etc/sluice")), ("/readOnly", json!(true))]);
        has(mount("bpffs"), &[("/mountPath", json!("/sys/fs/bpf"))]);

        let map = world.api::<k8s_openapi::api::core::v1::ConfigMap>().get("lb-svc-web").await.unwrap();
        let map = serde_json::to_value(map).unwrap();
        has(&map, &[("/metadata/labels", all_labels), ("/metadata/ownerReferences", owner)]);
    });
}

#[test]
fn the_config_map_is_the_gateways_file_and_the_pod_knows_the_address() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let service = world.service("web").on(&network).port_to("TCP", 80, 8080).port_to("UDP", 53, 5353);
        let service = service.create().await;
        world.published("web").await;
        let file: Value = serde_saphyr::from_str(&world.gateway_file("web").await.unwrap()).unwrap();
        let expected = json!({
            "version": 1,
            "services": [{
                "name": format!("{}/web", world.namespace),
                "vips": [{"address": "172.18.0.11/16", "gateway": "172.18.0.1"}],
                "targets": [service.spec.unwrap().cluster_ip.unwrap()],
                "ports": [
                    {"name": "tcp-80", "protocol": "TCP", "port": 80, "targetPort": 80},
                    {"name": "udp-53", "protocol": "UDP", "port": 53, "targetPort": 53},
                ],
            }],
        });
        assert_eq!(file, expected);
        let pod = world.gateway_pod("web").await;
        for (name, value) in [
            ("ip_address", "172.18.0.11"),
            ("cidr", "172.18.0.0/16"),
            ("gateway", "172.18.0.1"),
            ("allocated", "true"),
            ("logical_switch", &network.subnet),
        ] {
            let key = format!("{}.kubernetes.io/{name}", network.provider);
            assert_eq!(World::annotation(&pod, &key), value, "{key}");
        }
    });
}

#[test]
fn labels_of_long_names_are_shortened() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let name = "a".repeat(63);
        world.service(&name).on(&network).create().await;
        world.published(&name).await;
        let deployment = stored_deployment(world, &name).await;
        // printf lb-svc-aaa... | sha256sum
        let app = format!("lb-svc-{}-49af18fa", "a".repeat(47));
        assert_eq!(app.len(), 63);
        let labels = json!({"app": app, "namespace": world.namespace, "service": name});
        has(
            &deployment,
            &[
                ("/metadata/name", json!(format!("lb-svc-{name}"))),
                ("/spec/selector/matchLabels", labels),
                ("/spec/template/metadata/labels/app", json!(app)),
            ],
        );
        world.delete_service(&name).await;
        world.left(&name, &network).await;
    });
}

#[test]
fn annotations_of_a_service_say_how_its_pod_is() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        for default in [
            "--gateway-node-selector=pool=default",
            r#"--gateway-tolerations=[{"key": "default", "operator": "Exists"}]"#,
            r#"--gateway-resources={"requests": {"cpu": "20m"}}"#,
        ] {
            controller = controller.with(default);
        }
        controller.start().await;
        world.service("plain").on(&network).create().await;
        let own = world.service("own").on(&network);
        let own = own.annotate("sluice.io/node-selector", "pool=edge,disk=ssd");
        let own = own.annotate(
            "sluice.io/tolerations",
            r#"[{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}]"#,
        );
        let own = own.annotate("sluice.io/resources", "limits: {cpu: 500m, memory: 512Mi}");
        own.annotate("sluice.io/max-flows", "1048576").create().await;
        world.published("plain").await;
        world.published("own").await;

        let plain = stored_deployment(world, "plain").await["spec"]["template"]["spec"].take();
        has(
            &plain,
            &[
                ("/nodeSelector", json!({"pool": "default"})),
                ("/tolerations/0", json!({"key": "default", "operator": "Exists"})),
                ("/containers/0/resources/requests/cpu", json!("20m")),
            ],
        );
        let own = stored_deployment(world, "own").await["spec"]["template"]["spec"].take();
        has(
            &own,
            &[
                ("/nodeSelector", json!({"pool": "edge", "disk": "ssd"})),
                ("/tolerations/0", json!({"key": "edge", "operator": "Exists", "effect": "NoSchedule"})),
                ("/containers/0/resources/limits", json!({"cpu": "500m", "memory": "512Mi"})),
                // 1048576 flows of 192 bytes, and 70 MiB.
                ("/containers/0/resources/requests", json!({"cpu": "20m", "memory": "262Mi"})),
            ],
        );
        let file: Value = serde_saphyr::from_str(&world.gateway_file("own").await.unwrap()).unwrap();
        assert_eq!(file["gateway"], json!({"maxFlows": 1_048_576}));
    });
}

#[test]
fn an_annotation_that_cannot_be_read_is_refused_until_it_is_corrected() {
    world::test(async |world| {
        let network = world.external_network().await;
        let mut controller = world.controller().await;
        controller.start().await;
        let bad = [
            ("sluice.io/node-selector", "edge", "`edge`", "key=value"),
            ("sluice.io/tolerations", "[{effect: Sometimes}]", "effect", "write a list"),
            ("sluice.io/resources", "limits: {memory: much}", "`much`", "write it such as"),
            ("sluice.io/resources", "limits: {memory: 32Mi}", "32Mi", "raise it to"),
            ("sluice.io/max-flows", "12", "`12`", "from 64 to 16777216"),
        ];
        for (index, (key, value, ..)) in bad.iter().enumerate() {
            world.service(&format!("web{index}")).on(&network).annotate(key, value).create().await;
        }
        for (index, (key, _, fault, fix)) in bad.iter().enumerate() {
            let name = format!("web{index}");
            let field = format!("metadata.annotations[{key}]");
            world.event(&name, EventReason::Refused, &[&name, &field, fault, fix]).await;
            assert!(world.deployment(&name).await.is_none(), "{name}");
            world.patch_service(&name, annotate(key, Value::Null)).await;
            world.published(&name).await;
        }
    });
}
