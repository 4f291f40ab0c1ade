//! The Grafana dashboard asks for metrics that exist.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use sluice_apiserver_tests::helm::{chart, repository};

use super::{only, rendered};

/// The names of metrics in `text`: what begins with one of our prefixes.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("sluice_gateway_") || word.starts_with("sluice_controller_"))
        .collect()
}

/// What is exported, with its type: unit tests hold `docs/metrics.md` to what gateway and controller print.
fn exported() -> BTreeSet<String> {
    let page = fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let mut all = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let (name, kind) = (cells.next().unwrap().trim_matches('`').to_owned(), cells.next().unwrap());
        match kind {
            "histogram" => all.extend(["bucket", "sum", "count"].map(|end| format!("{name}_{end}"))),
            _ => drop(all.insert(name)),
        }
    }
    all
}

#[test]
fn every_metric_of_the_dashboard_is_exported() {
    let text = fs::read_to_string(chart().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let plots = panels.iter().filter(|panel| panel["type"] != "row");
    let expressions: Vec<&str> = plots
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .chain(dashboard["templating"]["list"][1]["query"].as_str())
        .collect();
    let exported = exported();
    for expression in &expressions {
        let used = names(expression);
        assert!(!used.is_empty(), "{expression}");
        for name in used {
            assert!(exported.contains(name), "{name} in {expression} is not among {exported:?}");
        }
    }
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn the_chart_hands_it_over_whole() {
    let objects =
        rendered(&["--set", "metrics.dashboard.enabled=true", "--show-only", "templates/monitoring.yaml"]);
    let map = only(&objects, "ConfigMap");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let given: Value = serde_json::from_str(map["data"]["sluice.json"].as_str().unwrap()).unwrap();
    let file: Value =
        serde_json::from_str(&fs::read_to_string(chart().join("files/dashboard.json")).unwrap()).unwrap();
    assert_eq!(given, file);
}
