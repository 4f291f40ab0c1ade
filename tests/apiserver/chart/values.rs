//! Values: what they become, and what is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_apiserver_tests::helm::{Helm, chart};
use sluice_apiserver_tests::programs;
use sluice_controller::desired::{Defaults, MANAGED_BY};

use super::{only, rendered, try_text};

/// The flags that the controller is started with.
fn flags(arguments: &[&str]) -> BTreeSet<String> {
    let objects = rendered(arguments);
    let container = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let flags = container["args"].as_array().unwrap();
    assert_eq!(flags[0], "run");
    flags[1..].iter().map(|flag| flag.as_str().unwrap().to_owned()).collect()
}

/// The names of flags in the help of `run`, such as `--resync`.
fn known() -> BTreeSet<String> {
    let help = programs::printed_by_controller(&["run", "--help"]).unwrap();
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with("--"));
    lines.map(|line| line.split([' ', '=']).next().unwrap().to_owned()).collect()
}

#[test]
fn images_are_those_of_this_version() {
    let objects = rendered(&[]);
    let image = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, json!(format!("sluice-controller:{}", env!("CARGO_PKG_VERSION"))));
    let gateway = Defaults::default().image;
    assert_eq!(
        flags(&[]),
        ["--admin-address=[::]:9090".to_owned(), format!("--gateway-image={gateway}")].into()
    );
    let digest = format!("sha256:{}", "5".repeat(64));
    let set = format!("gateway.image.digest={digest},gateway.image.registry=registry.example.com/net/");
    let image = format!("--gateway-image=registry.example.com/net/sluice-gateway@{digest}");
    assert!(flags(&["--set", &set]).contains(&image));
    assert!(flags(&["--set", "gateway.image.tag=0.2.0"]).contains("--gateway-image=sluice-gateway:0.2.0"));
}

#[test]
fn every_flag_can_be_set() {
    let values = json!({
        "controller": {
            "namespace": "edge", "kubeOvnAddresses": "pod", "gracePeriod": "1m", "concurrency": 8, "maxRestarts": 2,
            "resync": "5m", "logFormat": "json", "logLevel": "info,sluice_controller=debug", "leaseDuration": "30s",
            "leaseRenewDeadline": "20s", "leaseRetryPeriod": "4s",
        },
        "gateway": {
            "image": { "tag": "1.0.0", "pullPolicy": "Never" },
            "imagePullSecrets": ["registry", "mirror"],
            "nodeSelector": { "disk": "ssd", "pool": "edge" },
            "tolerations": [{ "key": "edge", "operator": "Exists" }],
            "resources": { "requests": { "cpu": "100m" } },
            "priorityClass": "high", "unreachableAfter": "9s", "maxFlows": 1_048_576, "seccomp": "unconfined",
        },
        "adminPort": 9191,
    });
    let set = |(key, value): (&String, &Value)| format!("{key}={value}");
    let sets: Vec<String> = values.as_object().unwrap().iter().map(set).collect();
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set-json", set]).collect();
    let flags = flags(&arguments);
    let expected = [
        "--namespace=edge",
        "--kube-ovn-addresses=pod",
        "--grace-period=1m",
        "--concurrency=8",
        "--max-restarts=2",
        "--resync=5m",
        "--log-format=json",
        "--log-level=info,sluice_controller=debug",
        "--lease-duration=30s",
        "--lease-renew-deadline=20s",
        "--lease-retry-period=4s",
        "--admin-address=[::]:9191",
        "--gateway-image=sluice-gateway:1.0.0",
        "--gateway-image-pull-policy=Never",
        "--gateway-image-pull-secrets=registry,mirror",
        "--gateway-node-selector=disk=ssd,pool=edge",
        r#"--gateway-tolerations=[{"key":"edge","operator":"Exists"}]"#,
        r#"--gateway-resources={"requests":{"cpu":"100m"}}"#,
        "--gateway-priority-class=high",
        "--gateway-unreachable-after=9s",
        "--gateway-max-flows=1048576",
        "--gateway-seccomp=unconfined",
    ];
    assert_eq!(flags, expected.map(str::to_owned).into());
    // What the chart decides: the election, since there are several controllers, and the help.
    let mut set: BTreeSet<String> =
        flags.iter().map(|flag| flag.split('=').next().unwrap().to_owned()).collect();
    set.extend(["--leader-elect", "--lease-namespace"].map(str::to_owned));
    let missing: Vec<_> = known().difference(&set).cloned().collect();
    assert!(missing.is_empty(), "flags without a value: {missing:?}");
}

#[test]
fn what_is_wrong_is_refused_and_named() {
    let cases = [
        ("replica=3", "replica"),
        ("controller.gracePeriods=1s", "gracePeriods"),
        ("controller.gracePeriod=soon", "/controller/gracePeriod"),
        ("controller.logFormat=xml", "/controller/logFormat"),
        ("controller.namespace=No_Namespace", "/controller/namespace"),
        ("gateway.image.digest=sha256:12", "/gateway/image/digest"),
        ("gateway.maxFlows=10", "/gateway/maxFlows"),
        ("gateway.seccomp=none", "/gateway/seccomp"),
        ("replicas=0", "/replicas"),
        ("adminPort=123456", "/adminPort"),
        ("image.repository=", "/image/repository"),
        ("metrics.serviceMonitor.enabled=maybe", "/metrics/serviceMonitor/enabled"),
    ];
    for (set, named) in cases {
        let refusal = format!("{:#}", try_text(&["--set", set]).expect_err(set));
        let plain = refusal.replace('.', "/");
        assert!(refusal.contains(named) || plain.contains(named), "{set}: {refusal}");
    }
}

#[test]
fn a_controller_of_one_namespace_writes_nowhere_else() {
    let objects = rendered(&["--set", "controller.namespace=edge", "--no-hooks"]);
    let names: BTreeSet<&str> =
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
    let own = ["sluice-controller-edge", "sluice-controller-edge-lease", "ipreservations.sluice.io"];
    assert_eq!(names, own.into());
    let cluster = only(&objects, "ClusterRole")["rules"].as_array().unwrap();
    for rule in cluster {
        let concerns_services =
            rule["resources"].as_array().unwrap().iter().any(|resource| resource == "services");
        assert!(!concerns_services, "{rule}");
    }
    let of_namespace =
        |object: &&Value| object["kind"] == "Role" && object["metadata"]["namespace"] == "edge";
    assert_eq!(objects.iter().filter(of_namespace).count(), 1);
    // Other controllers may have addresses.
    let definition = only(&objects, "CustomResourceDefinition");
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

#[test]
fn helm_finds_no_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let chart = chart().display().to_string();
    let helm = Helm::new(None).unwrap();
    let report = runtime.block_on(helm.run(&["lint", "--strict", &chart])).unwrap();
    assert!(report.contains("0 chart(s) failed"), "{report}");
}

/// Whether all of `some` are among `all`.
fn is_part(some: &Value, all: &Value) -> bool {
    some.as_object().unwrap().iter().all(|(key, value)| all[key] == *value)
}

#[test]
fn monitors_find_what_they_are_for() {
    let on = "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,adminPort=9191";
    let objects = rendered(&["--set", on]);
    let [service, monitor, deployment] =
        ["Service", "ServiceMonitor", "Deployment"].map(|kind| only(&objects, kind));
    assert!(is_part(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    let template = &deployment["spec"]["template"];
    assert!(is_part(&service["spec"]["selector"], &template["metadata"]["labels"]));
    let (asked, offered) = (&monitor["spec"]["endpoints"][0]["port"], &service["spec"]["ports"][0]);
    assert_eq!(*asked, offered["name"]);
    let port = &template["spec"]["containers"][0]["ports"][0];
    assert_eq!((&port["name"], &port["containerPort"]), (&offered["targetPort"], &json!(9191)));

    let of_gateways = &only(&objects, "PodMonitor")["spec"];
    assert_eq!(of_gateways["namespaceSelector"], json!({ "any": true }));
    let (key, value) = MANAGED_BY;
    assert_eq!(of_gateways["selector"]["matchLabels"], json!({ key: value }));
    assert_eq!(of_gateways["podMetricsEndpoints"][0]["port"], "admin");
}
