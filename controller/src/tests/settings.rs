//! A Service's own settings of its gateway pod.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Documents;
use crate::Refusal;
use crate::desired::{Defaults, Settings, resources, settings};

/// The settings of the example's Service with the annotation `sluice.io/<key>`.
fn with(key: &str, text: &str, defaults: &Defaults) -> Result<Settings, Refusal> {
    let mut documents = Documents::new();
    documents.service["metadata"]["annotations"][format!("sluice.io/{key}")] = text.into();
    settings(&documents.service(), defaults)
}

#[track_caller]
fn good(key: &str, text: &str) -> Settings {
    with(key, text, &Defaults::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[track_caller]
fn bad(key: &str, text: &str, fault: &str) {
    let refusal = with(key, text, &Defaults::default()).unwrap_err();
    assert_eq!(refusal.object, "Service default/test-service");
    assert_eq!(refusal.field, format!("metadata.annotations[sluice.io/{key}]"));
    assert!(refusal.fault.contains(&format!("`{text}`: ")) && refusal.fault.contains(fault), "{refusal}");
    assert!(refusal.fix.starts_with("write "), "{refusal}");
}

#[test]
fn without_annotations_the_defaults() {
    let defaults = Defaults { image: "x:1".to_owned(), max_flows: 128, ..Defaults::default() };
    assert_eq!(settings(&Documents::new().service(), &defaults).unwrap(), defaults);
}

#[test]
fn node_selectors() {
    let selector = good("node-selector", " kubernetes.io/os=linux, edge= ,").node_selector;
    let expected = [("edge", ""), ("kubernetes.io/os", "linux")];
    assert_eq!(selector, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let defaults = Defaults { node_selector: selector, ..Defaults::default() };
    let own = with("node-selector", "a=b", &defaults).unwrap().node_selector;
    assert_eq!(own.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "b".to_owned())], "as a whole");
    assert!(with("node-selector", "", &defaults).unwrap().node_selector.is_empty());
    bad("node-selector", "edge", "`edge` is not a label");
    bad("node-selector", "a=b,a=c", "`a=c` names a label twice");
    for text in ["=x", "a b=c", "a=b c", "Ex.com/a=b", "a/b/c=d", "-a=b", "a=-b", "_=x"] {
        bad("node-selector", text, "is not a label");
    }
    bad("node-selector", &format!("{}=x", "k".repeat(64)), "is not a label");
}

#[test]
fn tolerations() {
    let all = r#"[{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists"}]"#;
    let read = serde_json::to_value(good("tolerations", all).tolerations).unwrap();
    assert_eq!(read, serde_json::from_str::<Value>(all).unwrap());
    let yaml = "- key: a\n  value: b\n  effect: NoExecute\n  tolerationSeconds: 9\n";
    let read = serde_json::to_value(good("tolerations", yaml).tolerations).unwrap();
    assert_eq!(read, json!([{"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 9}]));
    assert!(good("tolerations", "[]").tolerations.is_empty());
    let faults = [
        ("edge", "sequence"),
        (r#"[{"keys": "a"}]"#, "keys"),
        (r#"[{"operator": "Exists"}, {"operator": "In"}]"#, "[1].operator: is Exists or Equal"),
        (r#"[{"operator": "Exists", "effect": "Sometimes"}]"#, "[0].effect: is"),
        (r#"[{"value": "a"}]"#, "[0].operator: is Exists where"),
        (r#"[{"key": "a b"}]"#, "[0].key: is not"),
        (r#"[{"key": "a", "value": "b/c"}]"#, "[0].value: is not"),
        (r#"[{"key": "a", "operator": "Exists", "value": "b"}]"#, "[0].value: is empty"),
        (r#"[{"key": "a", "tolerationSeconds": 1}]"#, "[0].tolerationSeconds: needs"),
    ];
    for (text, fault) in faults {
        bad("tolerations", text, fault);
    }
}

#[test]
fn resources_over_the_defaults_and_in_canonical_form() {
    let text = r#"{"requests": {"cpu": 0.5}, "limits": {"memory": "1024Mi", "cpu": 2}}"#;
    let read = serde_json::to_value(good("resources", text).resources).unwrap();
    assert_eq!(read, json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi", "cpu": "2"}}));
    let defaults = Defaults { resources: resources(text).unwrap(), ..Defaults::default() };
    let merged = with("resources", "limits: {cpu: 4}", &defaults).unwrap().resources;
    let expected = json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi", "cpu": "4"}});
    assert_eq!(serde_json::to_value(merged).unwrap(), expected);
    bad("resources", "lots", "");
    bad("resources", r#"{"limit": {}}"#, "limit");
    bad("resources", r#"{"limits": {"memory": "much"}}"#, "limits.memory: `much` is not an amount");
    bad("resources", r#"{"requests": {"cpu": "-1"}}"#, "requests.cpu: `-1` is not an amount");
    bad(
        "resources",
        r#"{"requests": {"cpu": "1"}, "limits": {"cpu": "999m"}}"#,
        "requests.cpu is more than limits.cpu",
    );
}

#[test]
fn numbers_of_flows() {
    assert_eq!(good("max-flows", " 65536 ").max_flows, 65_536);
    for text in ["", "63", "16777217", "-1", "1e6", "many"] {
        let refusal = with("max-flows", text, &Defaults::default()).unwrap_err();
        assert_eq!(refusal.fix, "write a number from 64 to 16777216", "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(key in "(node-selector|tolerations|resources|max-flows)", text in "\\PC{0,40}") {
        let _ = with(&key, &text, &Defaults::default());
    }
}
