//! The objects of the example's Service.

mod in_order;
mod resources;
mod same_template;
mod whose;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use sluice_gateway::config::file::File;

use super::Documents;
use crate::Refusal;
use crate::api::{NetworkAttachmentDefinition, NetworkConfig, Provider, Subnet};
use crate::desired::{
    AddressesBy, Defaults, Inputs, Settings, config_map, deployment, pod_annotations, settings,
};
use crate::families::{cluster_ips, served};
use crate::gateway_file::gateway_file;
use crate::ipam::{Choice, Had, Pools, Taken, choose};

const UID: &str = "161edee1-7f6e-40f5-9e09-5a52c44267d0";
const PROVIDER: &str = "lb-svc-attachment.kube-system";

/// All that objects are made of, as the operator has it.
struct Made {
    service: Service,
    provider: Provider,
    network: NetworkConfig,
    subnet: Subnet,
    vips: Vec<Choice>,
    file: File,
    settings: Settings,
}

impl Made {
    fn of(documents: &Documents, defaults: &Defaults) -> Result<Self, Refusal> {
        let mut service = documents.service();
        service.metadata.uid = Some(UID.to_owned());
        let subnet: Subnet = serde_json::from_value(documents.subnet.clone()).unwrap();
        let pools = Pools::of(&subnet)?;
        let targets = cluster_ips(&service)?;
        let families = served(&service, &targets, &subnet, &pools)?;
        let vips = choose(&service, &subnet, &pools, &families, Had::default(), &Taken::new())?;
        let settings = settings(&service, defaults)?;
        let file = gateway_file(&service, &vips, &targets, settings.max_flows)?;
        let attachment: NetworkAttachmentDefinition =
            serde_json::from_value(documents.attachment.clone()).unwrap();
        let (provider, network) = (PROVIDER.parse().unwrap(), attachment.network()?);
        Ok(Self { service, provider, network, subnet, vips, file, settings })
    }

    fn inputs(&self, template_addresses: bool) -> Inputs<'_> {
        let Self { service, provider, network, subnet, vips, file, settings } = self;
        Inputs { service, provider, network, subnet, vips, file, settings, template_addresses }
    }
}

fn made(documents: &Documents) -> Made {
    Made::of(documents, &Defaults::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn deployment_of(documents: &Documents) -> Value {
    serde_json::to_value(deployment(&made(documents).inputs(true)).unwrap()).unwrap()
}

fn annotated(documents: &mut Documents, key: &str, text: &str) {
    documents.service["metadata"]["annotations"][key] = text.into();
}

#[test]
fn what_the_seed_shows_of_pod_and_deployment() {
    let made = made(&Documents::new());
    let deployment = serde_json::to_value(deployment(&made.inputs(true)).unwrap()).unwrap();
    assert_eq!(deployment["metadata"]["name"], "lb-svc-test-service");
    assert_eq!(deployment["metadata"]["namespace"], "default");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    let template = &deployment["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["name"], "lb-svc");

    let mut live: BTreeMap<String, String> =
        serde_json::from_value(template["metadata"]["annotations"].clone()).unwrap();
    live.extend(pod_annotations(&made.inputs(true), AddressesBy::Us).unwrap());
    let shown = [
        ("k8s.v1.cni.cncf.io/networks", "kube-system/lb-svc-attachment"),
        ("lb-svc-attachment.kube-system.kubernetes.io/allocated", "true"),
        ("lb-svc-attachment.kube-system.kubernetes.io/cidr", "172.18.0.0/16"),
        ("lb-svc-attachment.kube-system.kubernetes.io/gateway", "172.18.0.1"),
        ("lb-svc-attachment.kube-system.kubernetes.io/ip_address", "172.18.0.18"),
        ("lb-svc-attachment.kube-system.kubernetes.io/logical_switch", "attach-subnet"),
    ];
    for (key, value) in shown {
        assert_eq!(live.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn nothing_privileged() {
    let deployment = deployment_of(&Documents::new());
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"],
        json!({
            "runAsUser": 0, "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]},
        })
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["securityContext"], json!({"seccompProfile": {"type": "RuntimeDefault"}}));
    for field in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
        assert!(pod.get(field).is_none(), "{field}");
    }
}

/// What the daemon's defaults look for is where the pod has it.
#[test]
fn the_gateway_finds_its_file_its_folder_and_bpffs() {
    let made = made(&Documents::new());
    let deployment = serde_json::to_value(deployment(&made.inputs(false)).unwrap()).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!((&container["command"], &container["args"]), (&json!(["/sluice-gateway"]), &json!(["run"])));
    let mounted = |path: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount =
            mounts.iter().find(|mount| mount["mountPath"] == path).unwrap_or_else(|| panic!("{path}"));
        assert!(mount.get("subPath").is_none(), "never refreshed");
        let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]);
        (mount.clone(), volume.unwrap().clone())
    };
    let map = config_map(&made.inputs(false)).unwrap();
    let (mount, volume) = mounted("/etc/sluice");
    assert_eq!(volume["configMap"]["name"], json!(map.metadata.name));
    assert_eq!(mount["readOnly"], true);
    let text = &map.data.unwrap()["gateway.yaml"];
    assert_eq!(serde_saphyr::from_str::<File>(text).unwrap(), made.file);

    assert_eq!(mounted("/run/sluice").1["emptyDir"]["medium"], "Memory");
    let (mount, volume) = mounted("/sys/fs/bpf");
    assert_eq!(volume["hostPath"], json!({"path": "/sys/fs/bpf", "type": "Directory"}));
    assert_eq!(mount["mountPropagation"], "HostToContainer");
    let [id] = container["env"].as_array().unwrap().as_slice() else { panic!("{container}") };
    let expected =
        json!({"name": "SLUICE_GATEWAY_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}});
    assert_eq!(*id, expected);
}

#[test]
fn probes_by_the_gateways_own_commands() {
    let deployment = deployment_of(&Documents::new());
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    for (probe, command) in [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")]
    {
        assert_eq!(container[probe]["exec"]["command"], json!(["/sluice-gateway", command]), "{probe}");
    }
    let seconds = |probe: &str, field: &str| container[probe][field].as_u64().unwrap();
    assert!(seconds("startupProbe", "periodSeconds") + seconds("readinessProbe", "periodSeconds") <= 3);
    // Not before the gateway itself has given up on its loop.
    assert!(seconds("startupProbe", "periodSeconds") * seconds("startupProbe", "failureThreshold") >= 60);
}

#[test]
fn a_lost_node_is_left_soon() {
    let tolerations = |documents: &Documents| {
        deployment_of(documents)["spec"]["template"]["spec"]["tolerations"].as_array().unwrap().clone()
    };
    let short =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    let (not_ready, unreachable) =
        (short("node.kubernetes.io/not-ready"), short("node.kubernetes.io/unreachable"));
    assert_eq!(tolerations(&Documents::new()), [not_ready.clone(), unreachable]);
    let mut documents = Documents::new();
    let own = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists"});
    annotated(&mut documents, "sluice.io/tolerations", &json!([own]).to_string());
    assert_eq!(tolerations(&documents), [own, not_ready], "the Service's own goes before");
}

#[test]
fn both_families_in_annotations_ipv4_first() {
    let mut documents = Documents::dual_stack();
    documents.service["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    documents.service["spec"]["clusterIPs"] = json!(["fd00:109::1", "10.109.201.193"]);
    let made = made(&documents);
    let live = pod_annotations(&made.inputs(false), AddressesBy::Us).unwrap();
    let get = |name: &str| live[&format!("{PROVIDER}.kubernetes.io/{name}")].as_str();
    assert_eq!(get("ip_address"), "172.18.0.18,fd00:18::2");
    assert_eq!(get("cidr"), "172.18.0.0/16,fd00:18::/64");
    assert_eq!(get("gateway"), "172.18.0.1,fd00:18::1");
    let template = |template_addresses| {
        let deployment = deployment(&made.inputs(template_addresses)).unwrap();
        let metadata = deployment.spec.unwrap().template.metadata.unwrap();
        metadata.annotations.unwrap().remove(&format!("{PROVIDER}.kubernetes.io/ip_address"))
    };
    assert_eq!(template(true).as_deref(), Some("172.18.0.18,fd00:18::2"));
    assert_eq!(template(false), None);
    // A pod that waits for its end, since another address came, must not look as if it had that one.
    let live = pod_annotations(&made.inputs(true), AddressesBy::Us).unwrap();
    assert!(!live.contains_key(&format!("{PROVIDER}.kubernetes.io/ip_address")), "{live:?}");
}

#[test]
fn what_kube_ovn_writes_is_left_to_it() {
    let made = made(&Documents::new());
    let ours = pod_annotations(&made.inputs(true), AddressesBy::Us).unwrap();
    let theirs = pod_annotations(&made.inputs(true), AddressesBy::KubeOvn).unwrap();
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ["sluice.io/config-hash"]);
    assert_eq!(theirs["sluice.io/config-hash"], ours["sluice.io/config-hash"]);

    let mut documents = Documents::new();
    documents.service["spec"]["ports"][0]["port"] = 81.into();
    let edited = pod_annotations(&self::made(&documents).inputs(true), AddressesBy::KubeOvn).unwrap();
    assert_ne!(edited, theirs, "the kubelet is told");
}

#[test]
fn the_cluster_side_subnet_of_a_custom_vpc() {
    let mut documents = Documents::new();
    let key = "ovn.kubernetes.io/logical_switch";
    let annotation = |documents: &Documents| {
        deployment_of(documents)["spec"]["template"]["metadata"]["annotations"].get(key).cloned()
    };
    assert_eq!(annotation(&documents), None);
    annotated(&mut documents, key, "vpc-subnet");
    assert_eq!(annotation(&documents), Some("vpc-subnet".into()));
}
