//! A network whose addresses Kube-OVN's CNI plugin gives: a stand-in of that name gives the one that the pod's annotations name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use sluice_cluster::programs;

use crate::case::Case;

/// A CNI plugin for addresses: <https://www.cni.dev/docs/spec/>. It waits, as Kube-OVN does, until the pod is said to have one.
const PLUGIN: &str = r#"#!/bin/sh
[ "$CNI_COMMAND" = ADD ] || exit 0
provider=$(sed -n 's/.*"provider": *"\([^"]*\)".*/\1/p')
for pair in $(echo "$CNI_ARGS" | tr ';' ' '); do
  case $pair in
    K8S_POD_NAMESPACE=*) namespace=${pair#*=} ;;
    K8S_POD_NAME=*) pod=${pair#*=} ;;
  esac
done
annotation() {
  key=$(echo "$provider.kubernetes.io/$1" | sed 's/\./\\./g')
  KUBECTL --kubeconfig KUBECONFIG -n "$namespace" get pod "$pod" -o "jsonpath={.metadata.annotations.$key}"
}
tries=0
until [ "$(annotation allocated)" = true ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || { echo '{"cniVersion": "0.3.0", "code": 100, "msg": "no address is allocated"}'; exit 1; }
  sleep 0.1
done
prefix=$(annotation cidr)
echo "{\"cniVersion\": \"0.3.0\", \"ips\": [{\"version\": \"4\", \"address\": \"$(annotation ip_address)/${prefix#*/}\", \"gateway\": \"$(annotation gateway)\"}]}"
"#;

#[test]
fn an_address_that_the_pods_network_gives_is_served() {
    let case = Case::without_network("ipam-kube-ovn");
    let files = case.cluster.node_files(1);
    let plugin = files.folder.join("kube-ovn");
    let kubectl = programs::kubernetes("kubectl").unwrap().display().to_string();
    let kubeconfig = case.cluster.kubeconfig().display().to_string();
    fs::write(&plugin, PLUGIN.replace("KUBECTL", &kubectl).replace("KUBECONFIG", &kubeconfig)).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    files.add_plugin(&plugin).unwrap();

    let ipam = json!({ "ipam": { "type": "kube-ovn", "provider": case.provider("external") } });
    case.apply(&case.network("external", &ipam));
    case.apply(&case.subnet("external"));
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);
    let pods = case.gateway_pods("web");
    // It was the plugin that gave it, before the gateway looked.
    let networks = pods[0]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"].as_str().unwrap();
    let networks: Value = serde_json::from_str(networks).unwrap();
    assert_eq!(networks[1]["ips"], json!([address]), "{networks}");
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    case.kubectl(&["delete", "pod", name, "--wait=false"]);
    case.eventually("another pod serves it", || {
        let is_new = case.gateway_pods("web").iter().any(|pod| pod["metadata"]["name"] != name);
        (is_new && case.hostname(address).is_ok()).then_some(())
    });
    assert_eq!(case.addresses("web"), [address.as_str()]);
}
