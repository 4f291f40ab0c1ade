//! Files that are made from others are as they would be made now. With SLUICE_WRITE_DEPLOY they are made so.

use std::fs;

use serde_json::{Map, Value};
use sluice_apiserver_tests::helm::{NAMESPACE, chart, repository};
use sluice_controller::crds::{ip_reservation, subnet, to_yaml};
use sluice_controller::{policy, rbac};

use super::text;

const WRITE: &str = "SLUICE_WRITE_DEPLOY";
/// Around the table of values.
const TABLE: [&str; 2] = ["<!-- values -->\n", "<!-- end of values -->\n"];

/// `file` is `text`.
fn committed(file: &str, text: &str) {
    let path = repository(file);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "{file} is out of date: run `{WRITE}=1 cargo test -p sluice-apiserver-tests chart::generated -- --test-threads=1`"
    );
}

#[test]
fn a_files_of_the_chart() {
    let chart = "deploy/chart/sluice";
    committed(
        &format!("{chart}/files/ipreservations.sluice.io.yaml"),
        &to_yaml(&[ip_reservation()]).unwrap(),
    );
    committed(&format!("{chart}/crds/subnets.kubeovn.io.yaml"), &to_yaml(&[subnet()]).unwrap());
    committed(&format!("{chart}/files/policy.yaml"), &to_yaml(&policy::objects()).unwrap());
    let rules = serde_saphyr::to_string(&rbac::rules_of_chart()).unwrap();
    let head = "# Rules of the roles of `sluice-controller run` and `release`, by where they are needed.\n";
    committed(&format!("{chart}/files/rules.yaml"), &format!("{head}{rules}"));
}

#[test]
fn plain_manifests() {
    let namespace = format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n"
    );
    let head = "# The chart with its default values, for `kubectl apply --server-side -f`. Where Kube-OVN is not installed, first\n\
                #\n\
                #   kubectl create -f deploy/chart/sluice/crds/subnets.kubeovn.io.yaml\n\
                #\n\
                # Before it is deleted: deploy/release.yaml. docs/install.md says more.\n#\n";
    let all = text(&["--no-hooks"]);
    committed("deploy/sluice.yaml", &format!("{head}{}{namespace}{all}", rbac::explanation()));

    let head = "# To be run before deploy/sluice.yaml is deleted: it lets go of all Services.\n\
                #\n\
                #   kubectl apply -f deploy/release.yaml\n\
                #   kubectl -n sluice-system wait --for=condition=complete --timeout=5m job/sluice-controller-release\n\
                #   kubectl delete -f deploy/release.yaml -f deploy/sluice.yaml\n";
    let release = text(&["--show-only", "templates/release.yaml"]);
    committed("deploy/release.yaml", &format!("{head}{}", without_hooks(&release)));
}

/// Without what tells Helm when to run it.
fn without_hooks(yaml: &str) -> String {
    let is_hook = |line: &&str| line.trim() == "annotations:" || line.trim().starts_with("helm.sh/hook");
    yaml.lines().filter(|line| !is_hook(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn table_of_values() {
    let read = |file: &str| fs::read_to_string(chart().join(file)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    rows(&schema, &schema, &values, "", &mut table);

    let page = fs::read_to_string(repository("docs/install.md")).unwrap();
    let (before, rest) = page.split_once(TABLE[0]).unwrap();
    let (_, after) = rest.split_once(TABLE[1]).unwrap();
    committed("docs/install.md", &[before, TABLE[0], &table, TABLE[1], after].concat());
}

/// Adds a row for each value of `of`, those of its parts in place of it.
fn rows(root: &Value, of: &Value, values: &Value, prefix: &str, table: &mut String) {
    for (name, part) in parts(of) {
        let target = resolved(root, &part);
        let (path, value) = (format!("{prefix}{name}"), &values[name]);
        if !parts(target).is_empty() {
            rows(root, target, value, &format!("{path}."), table);
            continue;
        }
        if path == "global" {
            continue;
        }
        let default = if value.is_null() { String::new() } else { format!("`{value}`") };
        let choices = target["enum"].as_array().map(|all| {
            let all: Vec<String> = all
                .iter()
                .filter(|one| *one != "")
                .map(|one| format!("`{}`", one.as_str().unwrap()))
                .collect();
            format!(": {}", all.join(", "))
        });
        let text = part["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        *table += &format!("| `{path}` | {default} | {text}{} |\n", choices.unwrap_or_default());
    }
}

fn parts(schema: &Value) -> Map<String, Value> {
    schema["properties"].as_object().cloned().unwrap_or_default()
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}
