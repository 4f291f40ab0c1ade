//! What is edited while a gateway serves never makes another pod.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Documents;
use super::{annotated, deployment_of, made};
use crate::desired::deployment;

/// Edits that a gateway takes over while it serves.
fn served_on(mut documents: Documents, edit: &Edit) -> Documents {
    let spec = &mut documents.service["spec"];
    let port = |(index, (port, protocol)): (usize, &(u16, &str))| json!({"name": format!("p{index}"), "port": port, "protocol": protocol, "targetPort": 8080, "nodePort": 30000 + index});
    spec["ports"] = edit.ports.iter().enumerate().map(port).collect();
    spec["loadBalancerSourceRanges"] =
        edit.ranges.iter().map(|byte| Value::from(format!("{byte}.0.0.0/8"))).collect();
    spec["clusterIP"] = format!("10.109.0.{}", edit.cluster_ip).into();
    spec["sessionAffinity"] = edit.affinity.into();
    spec["externalTrafficPolicy"] = edit.policy.into();
    spec["selector"] = json!({"app": edit.policy});
    documents.service["metadata"]["labels"] = json!({"app": edit.affinity});
    documents.service["metadata"]["resourceVersion"] = edit.cluster_ip.to_string().into();
    annotated(&mut documents, "ovn.kubernetes.io/vpc", edit.policy);
    let subnet = &mut documents.subnet["spec"];
    subnet["cidrBlock"] = format!("172.18.0.0/{}", edit.length).into();
    subnet["gateway"] = edit.gateway.map(|byte| format!("172.18.0.{byte}")).unwrap_or_default().into();
    subnet["excludeIps"] = json!([format!("172.18.0.2..172.18.0.{}", edit.excluded)]);
    documents
}

#[derive(Debug)]
struct Edit {
    ports: Vec<(u16, &'static str)>,
    ranges: Vec<u8>,
    cluster_ip: u8,
    affinity: &'static str,
    policy: &'static str,
    length: u8,
    gateway: Option<u8>,
    excluded: u8,
}

fn edits() -> impl Strategy<Value = Edit> {
    let port = (1_u16.., prop::sample::select(vec!["TCP", "UDP", "SCTP"]));
    (
        prop::collection::btree_set(port, 1..6),
        prop::collection::vec(1_u8..=223, 0..4),
        1_u8..=254,
        prop::sample::select(vec!["None", "ClientIP"]),
        prop::sample::select(vec!["Cluster", "Local"]),
        16_u8..=24,
        prop::option::of(19_u8..=254),
        3_u8..=254,
    )
        .prop_map(|(ports, ranges, cluster_ip, affinity, policy, length, gateway, excluded)| Edit {
            ports: ports.into_iter().collect(),
            ranges,
            cluster_ip,
            affinity,
            policy,
            length,
            gateway,
            excluded,
        })
}

proptest! {
    #[test]
    fn under_edits_that_are_served_on(one in edits(), other in edits()) {
        let (one, other) = (served_on(Documents::new(), &one), served_on(Documents::new(), &other));
        prop_assert_eq!(deployment_of(&one), deployment_of(&other));
    }
}

type Change = fn(&mut Documents);

/// The other way round: what a running pod cannot take over.
#[test]
fn but_not_under_those_that_need_another_pod() {
    let template = |documents: &Documents| deployment_of(documents)["spec"]["template"].clone();
    let before = template(&Documents::new());
    let edits: [(&str, Change); 8] = [
        ("another network card", |documents| {
            documents.attachment["spec"]["config"] = r#"{"type": "macvlan", "master": "eth1"}"#.into();
        }),
        ("another Subnet", |documents| {
            let key = "lb-svc-attachment.kube-system.kubernetes.io/logical_switch";
            annotated(documents, key, "second");
            documents.subnet["metadata"]["name"] = "second".into();
        }),
        ("another address", |documents| documents.service["spec"]["loadBalancerIP"] = "172.18.0.19".into()),
        ("both families", |documents| *documents = Documents::dual_stack()),
        ("larger tables", |documents| annotated(documents, "sluice.io/max-flows", "1000000")),
        ("another node", |documents| annotated(documents, "sluice.io/node-selector", "edge=yes")),
        ("tolerations", |documents| annotated(documents, "sluice.io/tolerations", "[{operator: Exists}]")),
        ("resources", |documents| annotated(documents, "sluice.io/resources", "requests: {cpu: 1}")),
    ];
    for (what, edit) in edits {
        let mut documents = Documents::new();
        edit(&mut documents);
        assert_ne!(template(&documents), before, "{what}");
    }
}

/// The seed's own has a comment, which somebody will remove.
#[test]
fn a_comment_in_the_network_is_nothing() {
    let mut documents = Documents::new();
    let before = deployment_of(&documents);
    let config = documents.attachment["spec"]["config"].as_str().unwrap();
    let (head, tail) = config.split_once("//").unwrap();
    let (_, tail) = tail.split_once('"').unwrap();
    let uncommented = format!("{head}\"{tail}");
    assert!(serde_json::from_str::<Value>(&uncommented).is_ok(), "{uncommented}");
    documents.attachment["spec"]["config"] = uncommented.into();
    assert_eq!(deployment_of(&documents), before);
}

/// Where the address is not in the template, a new one reaches the pod that runs.
#[test]
fn another_address_where_the_template_has_none() {
    let mut documents = Documents::new();
    let before = deployment(&made(&documents).inputs(false)).unwrap();
    documents.service["spec"]["loadBalancerIP"] = "172.18.0.19".into();
    assert_eq!(deployment(&made(&documents).inputs(false)).unwrap(), before);
}
