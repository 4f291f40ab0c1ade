//! The example of Kube-OVN's documentation, step by step, as its users have it. Two things are adapted: the comment inside the network's JSON, which Multus
//! refuses, and the name of the nodes' device.

use serde_json::Value;
use sluice_cluster::addresses::EXTERNAL_DEVICE;

use crate::case::{self, PATIENCE};
use crate::site;

const NETWORK: &str = include_str!("../../docs/examples/seed/network-attachment-definition.yaml");
const SUBNET: &str = include_str!("../../docs/examples/seed/subnet.yaml");
const SERVICE: &str = include_str!("../../docs/examples/seed/service.yaml");
const BACKENDS: &str = include_str!("../../docs/examples/seed/backends.yaml");

/// The network with its comment left out and the device's name put in.
fn adapted_network() -> String {
    let start = NETWORK.find("//").unwrap();
    let end = start + NETWORK[start..].find('\n').unwrap();
    let without_comment = format!("{}{}", &NETWORK[..start], &NETWORK[end..]);
    without_comment.replace(r#""eth0""#, &format!("{EXTERNAL_DEVICE:?}"))
}

/// The words of the only row of a table, below its header.
fn only_row(table: &str) -> Vec<&str> {
    let [_, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("one row:\n{table}") };
    row.split_whitespace().collect()
}

#[test]
fn the_example_works_as_it_is_written() {
    let cluster = site::shared();
    for manifest in [&adapted_network(), SUBNET, SERVICE, BACKENDS] {
        cluster.apply(manifest).unwrap();
    }
    let published = r#"--for=jsonpath={.status.loadBalancer.ingress[0].ip}=172.18.0.18"#;
    cluster.kubectl(&["wait", "service/test-service", published, "--timeout=90s"]).unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/dynamic", "--timeout=90s"]).unwrap();

    // `kubectl get pod`, `kubectl get svc`
    let pods = cluster.kubectl(&["get", "pod", "-l", "service=test-service"]).unwrap();
    assert!(pods.starts_with("NAME"), "{pods}");
    let [name, ready, status, restarts, ..] = only_row(&pods)[..] else { panic!("{pods}") };
    assert!(name.starts_with("lb-svc-test-service-"), "{name}");
    assert_eq!([ready, status, restarts], ["1/1", "Running", "0"]);
    let services = cluster.kubectl(&["get", "svc", "test-service"]).unwrap();
    let [service, kind, cluster_ip, external_ip, ports, _age] = only_row(&services)[..] else {
        panic!("{services}")
    };
    assert_eq!([service, kind, external_ip], ["test-service", "LoadBalancer", "172.18.0.18"]);
    assert!(ports.starts_with("80:") && ports.ends_with("/TCP"), "{ports}");

    // `kubectl get pod -o yaml`: what Multus says of the interfaces, and the address's annotations.
    let pod: Value =
        serde_json::from_str(&cluster.kubectl(&["get", "pod", name, "-o", "json"]).unwrap()).unwrap();
    let annotation = |name: &str| pod["metadata"]["annotations"][name].as_str().unwrap_or_default();
    assert_eq!(annotation("k8s.v1.cni.cncf.io/networks"), "kube-system/lb-svc-attachment");
    let networks: Value = serde_json::from_str(annotation("k8s.v1.cni.cncf.io/network-status")).unwrap();
    assert_eq!(networks[1]["interface"], "net1");
    for (name, value) in [
        ("allocated", "true"),
        ("cidr", "172.18.0.0/16"),
        ("gateway", "172.18.0.1"),
        ("ip_address", "172.18.0.18"),
        ("logical_switch", "attach-subnet"),
    ] {
        assert_eq!(
            annotation(&format!("lb-svc-attachment.kube-system.kubernetes.io/{name}")),
            value,
            "{name}"
        );
    }

    // `curl`, in the external network and from behind its router.
    for machine in [&cluster.client, &cluster.far] {
        let answer = machine.output("curl", &["-sS", "-m", "2", "http://172.18.0.18:80/hostname"]).unwrap();
        assert!(answer.starts_with("dynamic-"), "{answer} to {}", machine.name());
    }

    // Inside the pod: `ip a`, `ip rule`, `ip route show table 100`, `iptables`.
    let network = cluster.pod_network(pod["metadata"]["uid"].as_str().unwrap()).unwrap();
    let net1 = network.output("ip", &["address", "show", "net1"]).unwrap();
    assert!(net1.contains("mtu 1500") && net1.contains("inet 172.18.0.18/16 scope global net1"), "{net1}");
    let eth0 = network.output("ip", &["address", "show", "eth0"]).unwrap();
    let pod_ip = pod["status"]["podIP"].as_str().unwrap();
    assert!(eth0.contains("mtu 1400") && eth0.contains(&format!("inet {pod_ip}/24")), "{eth0}");
    let rules = network.output("ip", &["rule"]).unwrap();
    for device in ["eth0", "net1"] {
        assert!(rules.contains(&format!("from all iif {device} lookup 100")), "{rules}");
    }
    let routes = network.output("ip", &["route", "show", "table", "100"]).unwrap();
    for route in [
        "default via 172.18.0.1 dev net1".to_owned(),
        format!("{cluster_ip} via 10.244.1.1 dev eth0"),
        "172.18.0.0/16 dev net1 scope link".to_owned(),
    ] {
        assert!(routes.contains(&route), "no {route:?} in\n{routes}");
    }
    // The original has rules here.
    assert_eq!(network.output("iptables-save", &[]).unwrap(), "");
    let status = cluster.kubectl(&["exec", name, "--", "/sluice-gateway", "status"]).unwrap();
    assert!(status.contains("172.18.0.18"), "{status}");

    cluster.kubectl(&["delete", "service", "test-service", "--timeout=90s"]).unwrap();
    case::within(PATIENCE, "its pod is gone", || {
        let pods = cluster.kubectl(&["get", "pod", "-l", "service=test-service", "-o", "name"]).unwrap();
        pods.is_empty().then_some(())
    });
}
