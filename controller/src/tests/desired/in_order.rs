//! When a live Deployment is as it should be.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::super::Documents;
use super::{annotated, deployment_of};
use crate::desired::{in_order, replaces_pod, without_others};

/// What an API server adds to the Deployment that it is given.
fn stored(wanted: &Value) -> Value {
    let mut live = wanted.clone();
    live["metadata"]["uid"] = "1".into();
    live["metadata"]["generation"] = 1.into();
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1".into();
    live["spec"]["progressDeadlineSeconds"] = 600.into();
    let pod = &mut live["spec"]["template"]["spec"];
    pod["restartPolicy"] = "Always".into();
    pod["volumes"][1]["emptyDir"]["sizeLimit"] = "4096Ki".into();
    pod["dnsPolicy"] = "ClusterFirst".into();
    let container = &mut pod["containers"][0];
    container["terminationMessagePath"] = "/dev/termination-log".into();
    container["livenessProbe"]["successThreshold"] = 1.into();
    container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = "v1".into();
    container["resources"]["limits"]["memory"] = "120832Ki".into();
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

#[test]
fn what_others_have_set_is_removed_where_it_does_not_go_together() {
    let wanted = deployment_of(&Documents::new());
    let mut live = stored(&wanted);
    live["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    live["spec"]["template"]["metadata"]["annotations"]["team"] = "a".into();
    let containers = &mut live["spec"]["template"]["spec"]["containers"];
    let probe = &mut containers[0]["readinessProbe"];
    probe["exec"].take();
    probe["tcpSocket"] = json!({"port": 80});
    containers.as_array_mut().unwrap().insert(0, json!({"name": "sidecar", "image": "x"}));
    let read = |value: &Value| serde_json::from_value::<Deployment>(value.clone()).unwrap();
    let alone = without_others(&read(&wanted), &read(&live)).unwrap();
    assert_eq!(alone["strategy"], json!({"type": "Recreate", "rollingUpdate": null}));
    let containers = &alone["template"]["spec"]["containers"];
    assert_eq!(containers[0]["readinessProbe"]["tcpSocket"], Value::Null);
    assert!(containers[0]["readinessProbe"].as_object().unwrap().contains_key("tcpSocket"));
    assert_eq!(
        containers[0]["readinessProbe"]["exec"],
        wanted["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["exec"]
    );
    assert_eq!(
        containers.as_array().unwrap().len(),
        1,
        "an apply without a container leaves it to its manager"
    );
    assert_eq!(alone["template"]["metadata"], wanted["spec"]["template"]["metadata"]);
}
