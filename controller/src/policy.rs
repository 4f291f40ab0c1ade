//! What the API server can refuse by itself, by a ValidatingAdmissionPolicy: the faults that can be seen in a Service alone.
//!
//! The controller judges the same Services without it, and tells by Events. The policy tells at once, to the one who writes.
//! Protocols, ports and source ranges need no rule: API servers check them for each Service.

use serde_json::{Value, json};

use crate::api::annotation::{ATTACHMENT_PROVIDER, LOAD_BALANCER_CLASS};

/// Name of the policy and of its binding.
const NAME: &str = "sluice-services";

/// The policy and its binding.
pub fn objects() -> [Value; 2] {
    let provider = format!("object.metadata.?annotations[?'{ATTACHMENT_PROVIDER}'].orValue('').trim()");
    let label = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
    let address = "object.spec.?loadBalancerIP.orValue('')";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": NAME },
        "spec": {
            // What an API server cannot judge, the controller does.
            "failurePolicy": "Ignore",
            "matchConstraints": {
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["services"],
                }],
            },
            "matchConditions": [
                {
                    "name": "ours",
                    "expression": format!(
                        "object.spec.?type.orValue('') == 'LoadBalancer' && \
                         (object.spec.?loadBalancerClass.orValue('{LOAD_BALANCER_CLASS}') == '{LOAD_BALANCER_CLASS}') && \
                         ({provider} != '' || object.spec.?loadBalancerClass.hasValue())"
                    ),
                },
                {
                    // A Service that is wrong already can still be labelled, and deleted.
                    "name": "edited",
                    "expression": "oldObject == null || object.spec != oldObject.spec || \
                         object.metadata.?annotations != oldObject.metadata.?annotations",
                },
            ],
            "validations": [
                {
                    "expression": format!("{provider}.matches('^{label}[.]{label}$')"),
                    "messageExpression": format!(
                        "'metadata.annotations[{ATTACHMENT_PROVIDER}]: `' + {provider} + '` is not \
                         <name>.<namespace> of a NetworkAttachmentDefinition'"
                    ),
                    "reason": "Invalid",
                },
                {
                    "expression": format!(
                        "{address}.split(',').map(part, part.trim()).filter(part, part != '').all(part, isIP(part))"
                    ),
                    "messageExpression": format!(
                        "'spec.loadBalancerIP: `' + {address} + '` is not an IP address, or one of each family with a comma'"
                    ),
                    "reason": "Invalid",
                },
            ],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": NAME },
        "spec": { "policyName": NAME, "validationActions": ["Deny"] },
    });
    [policy, binding]
}
