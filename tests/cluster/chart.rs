//! The chart on a cluster of its own, from its installation to its end.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_cluster::{Cluster, programs};

use crate::case::Case;
use crate::site;

/// Sluice's namespace.
const NAMESPACE: &str = "sluice-system";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart/sluice");
/// What is the user's: the definition stays, since it holds Subnets.
const SUBNETS: [&str; 2] = ["CustomResourceDefinition/subnets.kubeovn.io", "APIService/v1.kubeovn.io"];

/// Runs Helm as somebody who may do everything.
fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    let set = |variable: &str, value: String| format!("{variable}={value}");
    let home = cluster.folder().join("hub/helm").display().to_string();
    let mut words: Vec<String> =
        ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| set(name, home.clone())).into();
    words.push(set("KUBECONFIG", cluster.kubeconfig().display().to_string()));
    words.push(programs::kubernetes("helm").unwrap().display().to_string());
    words.extend(["--namespace", NAMESPACE, "--wait", "--timeout=3m"].map(str::to_owned));
    words.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    cluster.hub.output("env", &words).unwrap()
}

/// Every object of every kind, as `<kind> <namespace>/<name>`; without what comes and goes by itself.
fn everything(cluster: &Cluster) -> BTreeSet<String> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]).unwrap();
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let template = r#"go-template={{range .items}}{{.kind}} {{with .metadata.namespace}}{{.}}{{end}}/{{.metadata.name}}{{"\n"}}{{end}}"#;
    let all = cluster.kubectl(&["get", &kinds.join(","), "--all-namespaces", "-o", template]).unwrap();
    // A kubelet makes its Lease when it comes round to it.
    let lasts = |line: &&str| !line.contains(" kube-node-lease/");
    all.lines().filter(lasts).map(|line| line.replace(" /", "/")).collect()
}

/// What one gateway pod may have of memory: it follows from the flows that it can track.
fn memory(case: &Case<'_>) -> Option<Value> {
    let pods = case.gateway_pods("web");
    let [pod] = pods.as_slice() else { return None };
    Some(pod["spec"]["containers"][0]["resources"]["limits"]["memory"].clone())
}

/// Waits until a gateway with another limit than `before` serves the address, and returns its limit.
fn replaced(case: &Case<'_>, address: &str, before: &Value) -> Value {
    case.eventually("another gateway serves the address", || {
        let now = memory(case).filter(|now| now != before)?;
        (case.addresses("web") == [address] && case.hostname(address).is_ok()).then_some(now)
    })
}

#[test]
fn installed_upgraded_rolled_back_and_uninstalled_without_a_trace() {
    let cluster = &site::start_without_sluice("-chart", 1);
    let case = Case::without_network_on(cluster, "chart");
    case.apply(&case.network("external", &json!({})));
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    cluster.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
    cluster
        .kubectl(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"])
        .unwrap();
    let before = case.eventually("the new namespace has what each has", || {
        Some(everything(cluster)).filter(|all| {
            let own = |kind: &str, name: &str| all.contains(&format!("{kind} {NAMESPACE}/{name}"));
            own("ServiceAccount", "default") && own("ConfigMap", "kube-root-ca.crt")
        })
    });

    helm(cluster, &["install", "sluice", CHART]);
    case.apply(&case.subnet("external"));
    let address = case.published("web").remove(0);
    case.assert_served(&address);
    let installed = memory(&case).unwrap();

    helm(
        cluster,
        &[
            "upgrade",
            "sluice",
            CHART,
            "--set",
            "gateway.maxFlows=65536",
            "--set",
            "controller.gracePeriod=2m",
        ],
    );
    let upgraded = replaced(&case, &address, &installed);

    helm(cluster, &["rollback", "sluice", "1"]);
    assert_eq!(replaced(&case, &address, &upgraded), installed);

    helm(cluster, &["uninstall", "sluice"]);
    case.assert_not_served(&address);
    assert_eq!(case.addresses("web"), [""; 0]);
    let left: BTreeSet<String> =
        [SUBNETS.map(str::to_owned).to_vec(), vec!["Subnet/chart".to_owned()]].concat().into_iter().collect();
    let mut difference = BTreeSet::new();
    case.eventually("there is what there was, and the Subnet", || {
        difference = everything(cluster).symmetric_difference(&before).cloned().collect();
        (difference == left).then_some(())
    });
    case.kubectl(&["delete", "service", "web", "--timeout=30s"]);
}
