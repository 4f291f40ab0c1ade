//! The objects of the example's Service.

mod same_template;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sluice_gateway::config::file::File;

use super::Documents;
use crate::Refusal;
use crate::api::{Provider, Subnet};
use crate::desired::{
    AddressesBy, Defaults, Inputs, Settings, config_map, deployment, in_order, is_ours, is_pod_of, name,
    pod_annotations, pods_of, replaces_pod, settings,
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
        Ok(Self { service, provider: PROVIDER.parse().unwrap(), subnet, vips, file, settings })
    }

    fn inputs(&self, template_addresses: bool) -> Inputs<'_> {
        let Self { service, provider, subnet, vips, file, settings } = self;
        Inputs { service, provider, subnet, vips, file, settings, template_addresses }
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

/// The resources of the gateway's container.
fn resources_of(documents: &Documents) -> Value {
    deployment_of(documents)["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
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
fn memory_follows_the_tables_of_the_families_in_use() {
    let memory = |documents: &Documents| {
        let resources = resources_of(documents);
        assert_eq!(resources["requests"]["memory"], resources["limits"]["memory"]);
        resources["limits"]["memory"].as_str().unwrap().to_owned()
    };
    // 262144 x 192 B = 48 MiB, x 256 B = 64 MiB; 6 MiB fixed, 48 MiB for the daemon: docs/memory.md.
    assert_eq!(memory(&Documents::new()), "102Mi");
    assert_eq!(memory(&Documents::dual_stack()), "166Mi");
    let mut documents = Documents::new();
    annotated(&mut documents, "sluice.io/max-flows", "1000000");
    assert_eq!(memory(&documents), "246Mi", "a power of two of places: 1048576 x 192 B = 192 MiB");
    assert_eq!(made(&documents).file.gateway.unwrap().max_flows, Some(1_000_000));
    assert_eq!(made(&Documents::new()).file.gateway, None, "the gateway's own default is not written");
}

#[test]
fn resources_of_the_services_own() {
    let resources = |text: &str| {
        let mut documents = Documents::new();
        annotated(&mut documents, "sluice.io/resources", text);
        deployment(&made(&documents).inputs(false))
            .map(|deployment| serde_json::to_value(deployment).unwrap())
            .map(|deployment| deployment["spec"]["template"]["spec"]["containers"][0]["resources"].clone())
    };
    let of = |text: &str| resources(text).unwrap();
    assert_eq!(
        of("limits: {memory: 0.5Gi}"),
        json!({"requests": {"cpu": "10m", "memory": "102Mi"}, "limits": {"memory": "512Mi"}})
    );
    assert_eq!(
        of("requests: {memory: 1Gi, cpu: 100m}"),
        json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}})
    );
    assert_eq!(
        of("limits: {memory: 80Mi, cpu: 1m}"),
        json!({"requests": {"memory": "80Mi"}, "limits": {"memory": "80Mi", "cpu": "1m"}})
    );
    let refusal = resources("limits: {memory: 64Mi}").unwrap_err();
    assert_eq!(refusal.field, "metadata.annotations[sluice.io/resources]");
    assert_eq!(refusal.fault, "limits.memory is 64Mi, and 262144 flows need 70Mi");
    assert_eq!(refusal.fix, "raise it to 102Mi or more, or set sluice.io/max-flows lower");
}

#[test]
fn a_request_above_the_defaults_limit() {
    let mut documents = Documents::new();
    annotated(&mut documents, "sluice.io/resources", "requests: {cpu: 2}");
    let resources = crate::desired::resources("limits: {cpu: 1}").unwrap();
    let made = Made::of(&documents, &Defaults { resources, ..Defaults::default() }).unwrap();
    let refusal = deployment(&made.inputs(false)).unwrap_err();
    assert_eq!(refusal.fault, "requests.cpu is 2, and limits.cpu 1");
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

#[test]
fn labels_are_shortened_each_by_itself() {
    let mut service = Documents::new().service();
    let labels = |service: &Service| pods_of(service).into_iter().collect::<Vec<_>>();
    let pairs = |pairs: [(&str, &str); 3]| pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        labels(&service),
        pairs([("app", "lb-svc-test-service"), ("namespace", "default"), ("service", "test-service")])
    );
    // 63 characters fit as they are; `lb-svc-` makes them 70. The digits are those of `printf lb-svc-aaa... | sha256sum`.
    let long = "a".repeat(63);
    service.metadata.name = Some(long.clone());
    let short = format!("lb-svc-{}-{}", "a".repeat(47), SHORTENED);
    assert_eq!(short.len(), 63);
    assert_eq!(labels(&service), pairs([("app", &short), ("namespace", "default"), ("service", &long)]));
    assert_eq!(name(&service), format!("lb-svc-{long}"), "names are not shortened");
}

/// `printf 'lb-svc-%s' $(printf 'a%.0s' $(seq 63)) | sha256sum | cut -c 1-8`
const SHORTENED: &str = "49af18fa";

#[test]
fn whose_a_pod_is() {
    let made = made(&Documents::new());
    let template = deployment(&made.inputs(false)).unwrap().spec.unwrap().template;
    let mut metadata = template.metadata.unwrap();
    metadata.namespace = Some("default".to_owned());
    let pod = |metadata: &ObjectMeta| Pod { metadata: metadata.clone(), ..Pod::default() };
    assert!(is_pod_of(&made.service, &pod(&metadata)));
    let mut reborn = made.service.clone();
    reborn.metadata.uid = Some("another".to_owned());
    assert!(!is_pod_of(&reborn, &pod(&metadata)), "a Service of the same name that came later");
    let edits: [fn(&mut ObjectMeta); 4] = [
        |metadata| metadata.namespace = Some("other".to_owned()),
        |metadata| drop(metadata.labels.as_mut().unwrap().remove("service")),
        |metadata| metadata.annotations = None,
        |metadata| metadata.labels = None,
    ];
    for (index, edit) in edits.iter().enumerate() {
        let mut metadata = metadata.clone();
        edit(&mut metadata);
        assert!(!is_pod_of(&made.service, &pod(&metadata)), "{index}");
    }
}

#[test]
fn whose_a_child_is() {
    let made = made(&Documents::new());
    let metadata = deployment(&made.inputs(false)).unwrap().metadata;
    assert!(is_ours(&metadata, &made.service));
    assert_eq!(metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"], "sluice-controller");
    let mut reborn = made.service.clone();
    reborn.metadata.uid = Some("another".to_owned());
    assert!(!is_ours(&metadata, &reborn));
    assert!(!is_ours(&ObjectMeta { owner_references: None, ..metadata.clone() }, &made.service));
    let mut guest = metadata;
    guest.owner_references.as_mut().unwrap()[0].controller = None;
    assert!(!is_ours(&guest, &made.service), "an owner, but not the controller");
}

/// What an API server adds to the Deployment that it is given.
fn stored(wanted: &Value) -> Value {
    let mut live = wanted.clone();
    live["metadata"]["uid"] = "1".into();
    live["metadata"]["generation"] = 1.into();
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1".into();
    live["spec"]["progressDeadlineSeconds"] = 600.into();
    let pod = &mut live["spec"]["template"]["spec"];
    pod["restartPolicy"] = "Always".into();
    pod["dnsPolicy"] = "ClusterFirst".into();
    let container = &mut pod["containers"][0];
    container["terminationMessagePath"] = "/dev/termination-log".into();
    container["livenessProbe"]["successThreshold"] = 1.into();
    container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = "v1".into();
    container["resources"]["limits"]["memory"] = "104448Ki".into();
    live["status"] = json!({"observedGeneration": 1});
    live
}

fn is_in_order(wanted: &Value, live: &Value) -> bool {
    let read = |value: &Value| serde_json::from_value::<Deployment>(value.clone()).unwrap();
    in_order(&read(wanted), &read(live))
}

fn replaces(wanted: &Value, live: &Value) -> bool {
    let read = |value: &Value| serde_json::from_value::<Deployment>(value.clone()).unwrap();
    replaces_pod(&read(wanted), &read(live))
}

#[test]
fn what_makes_another_pod() {
    let wanted = deployment_of(&Documents::new());
    let mut live = stored(&wanted);
    assert!(!replaces(&wanted, &live));
    live["spec"]["replicas"] = 2.into();
    live["metadata"]["labels"]["service"] = "x".into();
    assert!(!replaces(&wanted, &live) && !is_in_order(&wanted, &live));
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "x".into();
    assert!(replaces(&wanted, &live), "somebody's edit, undone");
}

#[test]
fn what_others_add_is_no_reason_to_write() {
    let wanted = deployment_of(&Documents::new());
    let mut live = stored(&wanted);
    assert!(is_in_order(&wanted, &live));
    live["metadata"]["labels"]["team"] = "edge".into();
    live["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = "now".into();
    let pod = &mut live["spec"]["template"]["spec"];
    pod["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "HTTP_PROXY", "value": "x"}));
    pod["volumes"].as_array_mut().unwrap().reverse();
    assert!(is_in_order(&wanted, &live), "an apply would not change it");
}

/// Every single field, changed or removed, calls for a write.
#[test]
fn every_edit_is_found() {
    let wanted = deployment_of(&Documents::new());
    let live = stored(&wanted);
    let mut leaves = Vec::new();
    collect_leaves(&wanted, String::new(), &mut leaves);
    assert!(leaves.len() > 60, "{leaves:#?}");
    for pointer in leaves {
        let mut edited = live.clone();
        let leaf = edited.pointer_mut(&pointer).unwrap();
        *leaf = match &*leaf {
            Value::String(text) => format!("{text}0").into(),
            Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
            Value::Bool(flag) => (!*flag).into(),
            other => panic!("{pointer}: {other}"),
        };
        assert!(!is_in_order(&wanted, &edited), "{pointer} changed");
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let mut edited = live.clone();
        match edited.pointer_mut(parent).unwrap() {
            Value::Object(parent) => drop(parent.remove(&field.replace("~1", "/"))),
            Value::Array(parent) => drop(parent.remove(field.parse().unwrap())),
            other => panic!("{pointer}: {other}"),
        }
        // Some fields cannot be missing at all.
        if let Ok(edited) = serde_json::from_value::<Deployment>(edited) {
            assert!(
                !in_order(&serde_json::from_value(wanted.clone()).unwrap(), &edited),
                "{pointer} removed"
            );
        }
    }
}

fn collect_leaves(value: &Value, pointer: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in
                fields.iter().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()))
            {
                collect_leaves(value, format!("{pointer}/{}", name.replace('/', "~1")), leaves);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect_leaves(value, format!("{pointer}/{index}"), leaves);
            }
        }
        _ => leaves.push(pointer),
    }
}

#[test]
fn the_hash_finds_what_is_no_longer_wanted() {
    let mut documents = Documents::new();
    annotated(&mut documents, "sluice.io/node-selector", "edge=yes");
    let before = deployment_of(&documents);
    let wanted = deployment_of(&Documents::new());
    assert!(!is_in_order(&wanted, &stored(&before)), "a field fewer");
    assert!(replaces(&wanted, &stored(&before)), "a field of the template fewer");
    assert_eq!(wanted, deployment_of(&Documents::new()), "the same again");
}
