//! Namespaces that enforce Pod Security: what is refused, and where the user reads it.

use serde_json::json;

use crate::case::Case;

fn enforce(case: &Case, level: &str) {
    let label = format!("pod-security.kubernetes.io/enforce={level}");
    case.kubectl(&["label", "namespace", &case.namespace, &label, "--overwrite"]);
}

/// The gateway is refused, the Service says so and what to do; once that is done, it is served.
fn refused_at(level: &str) {
    let case = Case::new(&format!("security-{level}"));
    case.start_backends();
    enforce(&case, level);
    case.apply(&case.service("web", &json!({})));
    let message = case.event("web", "GatewayNotReady", &format!("violates PodSecurity \"{level}"));
    assert!(message.contains("pod-security.kubernetes.io/enforce=privileged"), "{message}");
    assert_eq!(case.gateway_pods("web").len(), 0);
    assert_eq!(case.addresses("web"), [""; 0]);

    enforce(&case, "privileged");
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);
}

#[test]
fn baseline_refuses_the_gateway_and_the_service_says_so() {
    refused_at("baseline");
}

#[test]
fn restricted_refuses_the_gateway_and_the_service_says_so() {
    refused_at("restricted");
}
