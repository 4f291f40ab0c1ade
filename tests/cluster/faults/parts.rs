//! Parts that everybody shares end and come back: those of a node, the control plane, Sluice's own controllers. On a cluster of their own.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sluice_cluster::Cluster;

use super::Account;
use super::served::{BACK, Served, ctr, signal_container};
use crate::case::Case;
use crate::site;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);

#[test]
fn one_after_the_other() {
    let cluster = site::start("-parts", 1);
    let mut account = Account::default();
    let case = Case::on(&cluster, "parts");
    case.start_backends();
    let served = Served::start(&case, "web", "");
    let pod = served.ready_pod(None);

    for (port, program) in [(8001, "kubelet"), (8002, "containerd")] {
        let load = served.load();
        cluster.restart_on_node(1, program).unwrap();
        served.assert_edits_arrive(port);
        account.nothing_lost(&format!("{program} is killed and starts"), &load.stop());
    }

    let load = served.load();
    for controller in controllers(&case) {
        signal_container(&case, &controller, "SIGKILL");
    }
    served.assert_edits_arrive(8003);
    account.nothing_lost("all controllers are killed", &load.stop());

    let load = served.load();
    tag(&cluster, "sluice-controller");
    set_controller(&cluster, &json!({ "image": "sluice-controller:next" }));
    served.assert_edits_arrive(8004);
    account.nothing_lost("controllers are upgraded", &load.stop());

    let uid = &pod["metadata"]["uid"];
    assert_eq!(served.ready_pod(None)["metadata"]["uid"], *uid, "all of this keeps the pod");

    let load = served.load();
    tag(&cluster, "sluice-gateway");
    let image = "sluice-gateway:next";
    let arguments = ["run", "--admin-address=[::]:9090", &format!("--gateway-image={image}")];
    set_controller(&cluster, &json!({ "args": arguments }));
    let upgraded = served.ready_pod(uid.as_str());
    assert_eq!(upgraded["spec"]["containers"][0]["image"], image);
    load.wait_until_served(BACK);
    served.assert_edits_arrive(8005);
    account.back_within(BACK, "gateway's image is upgraded", &load.stop());

    let load = served.load();
    cluster.hub.stop_program("kube-apiserver", Signal::SIGKILL).unwrap();
    // The outage itself, no wait for anything.
    thread::sleep(AWAY);
    cluster.control_plane().start(&cluster.hub, "kube-apiserver").unwrap();
    cluster.wait_for_api_server().unwrap();
    served.assert_edits_arrive(8006);
    account.nothing_lost(&format!("API server is away for {AWAY:?}"), &load.stop());
    let kept = served.ready_pod(None);
    assert_eq!(kept["metadata"]["uid"], upgraded["metadata"]["uid"]);
    account.close();
}

/// The controllers' pods.
fn controllers(case: &Case) -> Vec<Value> {
    let text = case.cluster.kubectl(&["-n", "sluice-system", "get", "pods", "-o", "json"]).unwrap();
    let mut list: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(list["items"].take()).unwrap()
}

/// Gives an image a further name on all nodes.
fn tag(cluster: &Cluster, image: &str) {
    let reference = |tag: &str| format!("docker.io/library/{image}:{tag}");
    for node in &cluster.nodes {
        ctr(node, &["images", "tag", &reference(env!("CARGO_PKG_VERSION")), &reference("next")]);
    }
}

/// Merges fields into the controllers' container, and waits until all are replaced.
fn set_controller(cluster: &Cluster, fields: &Value) {
    let mut container = fields.clone();
    container["name"] = json!("controller");
    let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
    let of = ["--namespace", "sluice-system", "deployment/sluice-controller"];
    cluster.kubectl(&[&["patch", "--patch", &patch.to_string()], &of[..]].concat()).unwrap();
    cluster.kubectl(&[&["rollout", "status", "--timeout=120s"], &of[..]].concat()).unwrap();
}
