//! The drop-in: pods as stock Kube-OVN makes them, with the gateway's image, told what to serve by what its controller runs in them. Sluice's
//! own controller has no part in it.

use std::net::IpAddr;
use std::process::Command;

use serde_json::{Value, json};
use sluice_cluster::node::CONTAINERD;

use crate::case::Case;
use crate::stream::Stream;

/// By what Sluice is named in the field that Kube-OVN's ConfigMap has for the image.
const IMAGE: &str = concat!("sluice-gateway:", env!("CARGO_PKG_VERSION"));
const CONTAINER: &str = "lb-svc";
/// The script that it runs there.
const SCRIPT: &str = "/kube-ovn/lb-svc.sh";
/// The pods' router on the cluster's only node, as Kube-OVN would say in `ovn.kubernetes.io/gateway`.
const CLUSTER_GATEWAY: &str = "10.244.1.1";
/// The Service's ports and their target ports, in an order in which the original loses the second.
const PORTS: [(u16, u16); 2] = [(8080, 8080), (80, 8080)];

/// The Deployment that Kube-OVN's controller makes for the Service `web`.
fn deployment(case: &Case) -> Value {
    let labels = json!({ "app": "lb-svc-web", "namespace": case.namespace, "service": "web" });
    let subnet = format!("{}.kubernetes.io/logical_switch", case.provider("external"));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "lb-svc-web", "namespace": case.namespace },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "strategy": { "type": "Recreate" },
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "k8s.v1.cni.cncf.io/networks": format!("{}/external", case.namespace),
                        subnet: case.namespace,
                    },
                },
                "spec": {
                    "containers": [{
                        "name": CONTAINER,
                        "image": IMAGE,
                        "command": ["sleep", "infinity"],
                        "imagePullPolicy": "IfNotPresent",
                        "securityContext": { "privileged": true, "allowPrivilegeEscalation": true },
                        "resources": {},
                    }],
                    "terminationGracePeriodSeconds": 0,
                },
            },
        },
    })
}

/// What the controller runs in the pod on each event, one operation after the other.
fn operations(case: &Case, cluster_ip: &str) -> Vec<String> {
    let vip = case.address(2);
    let mut operations = vec!["init".to_owned(), format!("eip-add {vip}/24,{}", case.address(1))];
    operations.extend(PORTS.map(|(port, target_port)| {
        format!("dnat-add {vip},{port},tcp,{cluster_ip},{target_port},{CLUSTER_GATEWAY}")
    }));
    operations
}

/// Runs operations as Kube-OVN does, which takes any byte on standard error for a failure: in words, as its development branch, and then in
/// a line for a shell, as its release 1.16.2.
fn perform(case: &Case, pod: &str, operations: &[String]) {
    for operation in operations {
        let words = [&["bash", SCRIPT][..], &operation.split(' ').collect::<Vec<_>>()].concat();
        // Where there are no rules, the line ends with a blank.
        let blank = if operation.contains(' ') { "" } else { " " };
        let line = format!("bash {SCRIPT} {operation}{blank}");
        for arguments in [&words[..], &["/bin/bash", "-c", &line]] {
            let mut kubectl = case.cluster.kubectl_command().unwrap();
            kubectl.args(["--namespace", &case.namespace, "exec", pod, "--container", CONTAINER, "--"]);
            let output = kubectl.args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{arguments:?}: {}: {said}", output.status);
        }
    }
}

/// The pod, once its container has been started so often and runs.
fn running(case: &Case, restarts: u64) -> Value {
    case.eventually(&format!("the gateway runs after {restarts} restarts"), || {
        let [pod] = &case.gateway_pods("web")[..] else { return None };
        let status = &pod["status"]["containerStatuses"][0];
        (status["restartCount"] == restarts && !status["state"]["running"].is_null()).then(|| pod.clone())
    })
}

/// Asks the node's container runtime.
fn ctr(case: &Case, arguments: &[&str]) -> String {
    let mut command = Command::new("ctr");
    command.args(["--address", CONTAINERD, "--namespace", "k8s.io"]).args(arguments);
    case.cluster.node(1).unwrap().run(command).unwrap()
}

/// Kills a container, or what holds a pod's namespaces, as an accident on the node would.
fn kill(case: &Case, id: &str) {
    ctr(case, &["tasks", "kill", "--signal", "SIGKILL", id]);
}

/// The container that holds the namespaces of a pod.
fn sandbox(case: &Case, pod: &str) -> String {
    let filter =
        format!("labels.\"io.kubernetes.pod.name\"=={pod},labels.\"io.cri-containerd.kind\"==sandbox");
    let ids = ctr(case, &["containers", "list", "--quiet", &filter]);
    let [id] = ids.lines().collect::<Vec<_>>()[..] else { panic!("one sandbox of {pod}: {ids:?}") };
    id.to_owned()
}

#[test]
fn stock_kube_ovn_has_its_pods_served_by_sluice() {
    let case = Case::new("drop-in");
    case.start_backends();
    let ports =
        PORTS.map(|(port, target)| json!({ "name": format!("p{port}"), "port": port, "targetPort": target }));
    case.apply(&case.service("web", &json!({ "type": "ClusterIP", "ports": ports })));
    let service = case.find("service/web").unwrap();
    let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap();
    assert!(cluster_ip.parse::<IpAddr>().unwrap().is_ipv4());
    case.apply(&deployment(&case));
    let pod = running(&case, 0);
    let name = pod["metadata"]["name"].as_str().unwrap();

    // Twice, as on a second event.
    for _ in 0..2 {
        perform(&case, name, &operations(&case, cluster_ip));
    }
    let servers = PORTS.map(|(port, _)| format!("{}:{port}", case.address(2)));
    servers.iter().for_each(|server| case.assert_served(server));
    let network = case.cluster.pod_network(pod["metadata"]["uid"].as_str().unwrap()).unwrap();
    assert_eq!(network.output("iptables-save", &[]).unwrap(), "");
    let status = case.kubectl(&["exec", name, "--", "/sluice-gateway", "status"]);
    assert!(status.contains(&case.address(2)), "{status}");

    // The container ends, and nobody says anything to the next one.
    let stream = Stream::start(&case.cluster.client, &servers[1]);
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    kill(&case, container.trim_start_matches("containerd://"));
    running(&case, 1);
    case.eventually("the new container serves", || {
        case.try_kubectl(&["exec", name, "--", "/sluice-gateway", "ready"]).ok()
    });
    servers.iter().for_each(|server| case.assert_served(server));
    let outcome = stream.stop();
    assert_eq!(outcome.failures, [""; 0], "{} were answered", outcome.answered);

    // The node has rebooted: the sandbox is another, with an empty network. Kube-OVN sees the pod run, and says everything again.
    kill(&case, &sandbox(&case, name));
    running(&case, 2);
    perform(&case, name, &operations(&case, cluster_ip));
    servers.iter().for_each(|server| case.assert_served(server));

    let (port, target_port) = PORTS[0];
    let rule = format!("dnat-del {},{port},tcp,{cluster_ip},{target_port}", case.address(2));
    perform(&case, name, &[rule]);
    case.assert_not_served(&servers[0]);
    case.assert_served(&servers[1]);
}
