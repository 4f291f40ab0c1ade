//! The chart in `deploy/`, and the manifests that are made from it.

mod dashboard;
mod generated;
mod lifecycle;
mod values;

use serde_json::Value;
use sluice_apiserver_tests::helm::Helm;

/// What the chart makes with these arguments.
fn rendered(arguments: &[&str]) -> Vec<Value> {
    documents(&text(arguments))
}

fn text(arguments: &[&str]) -> String {
    try_text(arguments).unwrap()
}

fn try_text(arguments: &[&str]) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Helm::new(None).unwrap().template(arguments))
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The only object of this kind.
fn only<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}
