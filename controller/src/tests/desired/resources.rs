//! Requests and limits.

use serde_json::{Value, json};

use super::super::Documents;
use super::{Made, annotated, deployment_of, made};
use crate::desired::{Defaults, deployment};

/// The resources of the gateway's container.
fn resources_of(documents: &Documents) -> Value {
    deployment_of(documents)["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
}

#[test]
fn memory_follows_the_tables_of_the_families_in_use() {
    let memory = |documents: &Documents| {
        let resources = resources_of(documents);
        assert_eq!(resources["requests"]["memory"], resources["limits"]["memory"]);
        resources["limits"]["memory"].as_str().unwrap().to_owned()
    };
    // 262144 x 192 B = 48 MiB, x 256 B = 64 MiB; 6 MiB fixed, 64 MiB for the daemon: docs/memory.md.
    assert_eq!(memory(&Documents::new()), "118Mi");
    assert_eq!(memory(&Documents::dual_stack()), "182Mi");
    let mut documents = Documents::new();
    annotated(&mut documents, "sluice.io/max-flows", "1000000");
    assert_eq!(memory(&documents), "262Mi", "a power of two of places: 1048576 x 192 B = 192 MiB");
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
        json!({"requests": {"cpu": "10m", "memory": "118Mi"}, "limits": {"memory": "512Mi"}})
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
    assert_eq!(refusal.fix, "raise it to 118Mi or more, or set sluice.io/max-flows lower");
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
