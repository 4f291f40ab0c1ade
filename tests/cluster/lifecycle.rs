//! What Kube-OVN's own end-to-end tests ask of a LoadBalancer Service, in our words, and within their times.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Case, within};

/// How soon workload and status have to be there.
const SOON: Duration = Duration::from_secs(60);
/// How soon a replaced pod has to serve.
const REPLACED: Duration = Duration::from_secs(30);
/// How soon a deleted Service's workload has to be gone.
const GONE: Duration = Duration::from_secs(120);

/// From the Service's creation to its end; returns the address that it had.
fn walk(case: &Case, spec: &Value) -> String {
    case.start_backends();
    case.apply(&case.service("web", spec));
    within(SOON, "the Deployment is complete", || {
        let deployment = case.find("deployment/lb-svc-web")?;
        (deployment["status"]["availableReplicas"] == 1).then_some(())
    });
    let pods = case.gateway_pods("web");
    let [pod] = pods.as_slice() else { panic!("{} pods", pods.len()) };
    let annotation = |name: &str| {
        let key = format!("{}.kubernetes.io/{name}", case.provider("external"));
        pod["metadata"]["annotations"][&key].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(annotation("allocated"), "true");
    let address = annotation("ip_address");
    assert!(annotation("cidr").starts_with(&case.address(0)), "{}", annotation("cidr"));
    let published = within(SOON, "it is published", || {
        Some(case.addresses("web")).filter(|addresses| !addresses.is_empty())
    });
    assert_eq!(published, [address.as_str()]);
    case.assert_served(&address);

    let name = pod["metadata"]["name"].as_str().unwrap();
    case.kubectl(&["delete", "pod", name, "--wait=false"]);
    within(REPLACED, "another pod serves", || {
        let pods = case.gateway_pods("web");
        let is_new = pods.iter().all(|pod| pod["metadata"]["name"] != name) && !pods.is_empty();
        (is_new && case.hostname(&address).is_ok()).then_some(())
    });
    assert_eq!(case.addresses("web"), [address.as_str()]);

    case.kubectl(&["delete", "service", "web", "--wait=false"]);
    within(GONE, "Service, Deployment and pods are gone", || {
        let is_gone = case.find("service/web").is_none() && case.find("deployment/lb-svc-web").is_none();
        (is_gone && case.list("pods", "app=lb-svc-web").is_empty()).then_some(())
    });
    case.assert_not_served(&address);
    address
}

#[test]
fn an_address_is_given_served_kept_and_freed() {
    let case = Case::new("dynamic");
    let address = walk(&case, &json!({}));
    // The lowest that is free: the first is the gateway's.
    assert_eq!(address, case.address(2));
}

#[test]
fn an_address_that_is_asked_for_is_served_kept_and_freed() {
    let case = Case::new("static");
    let wanted = case.address(77);
    assert_eq!(walk(&case, &json!({ "loadBalancerIP": wanted })), wanted);
}
