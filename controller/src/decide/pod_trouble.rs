//! What keeps a gateway pod from running, in words that somebody can act on.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodStatus,
};

use crate::api::{annotation, namespace};
use crate::desired::MANAGED_BY;

/// A sentence for each thing that keeps the gateway of `deployment` from running on `pods`, sorted, none twice. Sentences stay the same
/// while the trouble does. `overdue` says that the gateway should have been ready by now: then a pod which only takes its time is
/// trouble, too.
pub fn pod_trouble(deployment: &Deployment, pods: &[&Pod], overdue: bool) -> Vec<String> {
    let mut messages: BTreeSet<String> = replica_failures(deployment).collect();
    let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    messages.extend(living.filter_map(|pod| trouble_of(pod, overdue)));
    messages.into_iter().collect()
}

/// Why the API server refuses the pod.
fn replica_failures(deployment: &Deployment) -> impl Iterator<Item = String> {
    let status = deployment.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failures = conditions
        .iter()
        .filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    let namespace = namespace(&deployment.metadata);
    failures.map(move |condition| {
        let message = condition.message.as_deref().unwrap_or("the API server does not say why");
        format!("the gateway pod is refused: {message}: {}", admission_fix(message, namespace))
    })
}

/// What to do about the API server's `message`, told by words that Kubernetes' own admission plugins use.
fn admission_fix(message: &str, namespace: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let (resources, max_flows) = (annotation::RESOURCES, annotation::MAX_FLOWS);
    if says(&["violates PodSecurity"]) {
        format!(
            "the gateway needs capabilities and the node's BPF file system: label the namespace, \
             `kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite`"
        )
    } else if says(&["exceeded quota", "failed quota"]) {
        format!(
            "raise the ResourceQuota of namespace {namespace}, or request less by {resources} or {max_flows}"
        )
    } else if says(&["usage per Container", "usage per Pod"]) {
        format!(
            "change the LimitRange of namespace {namespace}, or keep within it by {resources} or {max_flows}"
        )
    } else if says(&["no PriorityClass"]) {
        "create it, or correct the controller's --gateway-priority-class".to_owned()
    } else if says(&["admission webhook", "ValidatingAdmissionPolicy"]) {
        let (key, value) = MANAGED_BY;
        format!("exempt pods with the label {key}={value} from this policy")
    } else {
        format!("change what refuses it in namespace {namespace}")
    }
}

fn trouble_of(pod: &Pod, overdue: bool) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = namespace(&pod.metadata);
    let at = format!("gateway pod {name}");
    let status = pod.status.as_ref();
    if let Some(status) = status.filter(|status| status.phase.as_deref() == Some("Failed")) {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        let message = status.message.as_deref().unwrap_or("no message");
        return Some(format!("{at} was ended by its node: {reason}: {message}"));
    }
    if let Some(message) = status.and_then(unschedulable) {
        return Some(format!(
            "{at} finds no node: {message}: check {}, {} and {}, and the controller's defaults for them",
            annotation::NODE_SELECTOR,
            annotation::TOLERATIONS,
            annotation::RESOURCES
        ));
    }
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    if let Some(trouble) =
        containers.iter().find_map(|container| container_trouble(container, name, namespace))
    {
        return Some(format!("{at} {trouble}"));
    }
    if !overdue || status.is_some_and(is_ready) {
        None
    } else if containers.iter().any(running) {
        Some(format!(
            "{at} runs, but does not serve: `kubectl exec -n {namespace} {name} -- /sluice-gateway status` says why"
        ))
    } else {
        Some(format!(
            "{at} does not start: `kubectl describe pod -n {namespace} {name}` says what its node waits for, \
             such as the network or the image"
        ))
    }
}

fn unschedulable(status: &PodStatus) -> Option<&str> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(condition.message.as_deref().unwrap_or("the scheduler does not say why"))
}

/// Whether the pod's condition `Ready` holds.
pub(super) fn is_ready(status: &PodStatus) -> bool {
    holds(status, "Ready")
}

/// Whether its kubelet has said last that all containers are ready.
pub(super) fn are_containers_ready(status: &PodStatus) -> bool {
    holds(status, "ContainersReady")
}

fn holds(status: &PodStatus, condition: &str) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|of| of.type_ == condition && of.status == "True")
}

fn running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// What a container waits for that does not come by itself. What it passes through on its way back to a longer pause, such as
/// `ErrImagePull`, is left out: the sentence would change to and fro.
fn container_trouble(container: &ContainerStatus, pod: &str, namespace: &str) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let because = because(waiting);
    let image = &container.image;
    let trouble = match reason {
        "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" | "SignatureValidationFailed" => {
            format!(
                "cannot get the image {image}{because}: check the controller's --gateway-image, and that the node can pull it"
            )
        }
        "InvalidImageName" => {
            format!("has the image {image}{because}: correct the controller's --gateway-image")
        }
        "ErrImageNeverPull" => format!(
            "needs the image {image} on its node: load it there, or let it be pulled by the controller's --gateway-image-pull-policy"
        ),
        "CrashLoopBackOff" => {
            let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            format!("ends again and again{}", ended.map(|ended| how_it_ended(ended, pod, namespace))?)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            format!(
                "cannot be started ({reason}){because}: `kubectl describe pod -n {namespace} {pod}` says more"
            )
        }
        _ => return None,
    };
    Some(trouble)
}

fn because(waiting: &ContainerStateWaiting) -> String {
    waiting
        .message
        .as_deref()
        .filter(|message| !message.is_empty())
        .map(|message| format!(": {message}"))
        .unwrap_or_default()
}

fn how_it_ended(ended: &ContainerStateTerminated, pod: &str, namespace: &str) -> String {
    if ended.reason.as_deref() == Some("OOMKilled") {
        return format!(
            ", since its memory does not suffice: raise limits.memory by {}, or lower {}",
            annotation::RESOURCES,
            annotation::MAX_FLOWS
        );
    }
    format!(", with exit code {}: `kubectl logs -n {namespace} {pod} --previous` says why", ended.exit_code)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(conditions: Value) -> Deployment {
        let text = json!({"metadata": {"name": "lb-svc-web", "namespace": "shop"}, "status": {"conditions": conditions}});
        serde_json::from_value(text).unwrap()
    }

    fn pod(status: Value) -> Pod {
        let metadata = json!({"name": "lb-svc-web-1", "namespace": "shop"});
        serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
    }

    /// The one sentence about a pod with `status`.
    #[track_caller]
    fn sentence(status: Value) -> String {
        let trouble = pod_trouble(&deployment(json!([])), &[&pod(status)], false);
        let [sentence] = trouble.as_slice() else { panic!("{trouble:?}") };
        sentence.clone()
    }

    fn container(state: Value, last: Value) -> Value {
        let container = json!({
            "name": "lb-svc", "image": "sluice:9", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        });
        json!({"phase": "Running", "containerStatuses": [container]})
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(json!({"waiting": {"reason": reason, "message": message}}), json!({}))
    }

    #[track_caller]
    fn says(sentence: &str, parts: &[&str]) {
        for part in parts {
            assert!(sentence.contains(part), "`{part}` in: {sentence}");
        }
    }

    #[test]
    fn what_the_api_server_refuses() {
        let refused = |message: &str| {
            let conditions = json!([
                {"type": "Progressing", "status": "True"},
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message},
            ]);
            let trouble = pod_trouble(&deployment(conditions), &[], false);
            let [sentence] = trouble.as_slice() else { panic!("{trouble:?}") };
            assert!(sentence.contains(message), "{sentence}");
            sentence.clone()
        };
        says(
            &refused(
                r#"pods "lb-svc-web-" is forbidden: violates PodSecurity "baseline:latest": hostPath volumes"#,
            ),
            &["label namespace shop pod-security.kubernetes.io/enforce=privileged"],
        );
        says(
            &refused(r#"pods "x" is forbidden: exceeded quota: small, requested: memory=102Mi"#),
            &["ResourceQuota of namespace shop", "sluice.io/resources", "sluice.io/max-flows"],
        );
        says(
            &refused(r#"admission webhook "policy.example.com" denied the request: no"#),
            &["app.kubernetes.io/managed-by=sluice-controller"],
        );
        says(
            &refused(
                r#"pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 102Mi"#,
            ),
            &["LimitRange of namespace shop"],
        );
        says(
            &refused(r#"pods "x" is forbidden: no PriorityClass with name edge was found"#),
            &["--gateway-priority-class"],
        );
        says(&refused("something else"), &["something else: change what refuses it in namespace shop"]);
        let over = json!([{"type": "ReplicaFailure", "status": "False", "message": "was"}]);
        assert!(pod_trouble(&deployment(over), &[], true).is_empty());
    }

    #[test]
    fn no_node() {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        });
        says(
            &sentence(json!({"phase": "Pending", "conditions": [condition]})),
            &["gateway pod lb-svc-web-1 finds no node", "0/3 nodes", "sluice.io/node-selector"],
        );
    }

    #[test]
    fn containers_that_do_not_start() {
        says(
            &sentence(waiting("ImagePullBackOff", "Back-off pulling image: not found")),
            &["cannot get the image sluice:9: Back-off pulling image: not found: check", "--gateway-image"],
        );
        says(&sentence(waiting("InvalidImageName", "")), &["has the image sluice:9: correct"]);
        says(
            &sentence(waiting("ErrImageNeverPull", "")),
            &["needs the image sluice:9", "--gateway-image-pull-policy"],
        );
        says(
            &sentence(waiting("CreateContainerError", "no such mount")),
            &["(CreateContainerError): no such mount: `kubectl describe pod -n shop lb-svc-web-1`"],
        );
        let crashed = |reason: &str, code: i32| {
            let last = json!({"terminated": {"reason": reason, "exitCode": code}});
            sentence(container(
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}),
                last,
            ))
        };
        let crash = crashed("Error", 1);
        says(&crash, &["exit code 1", "`kubectl logs -n shop lb-svc-web-1 --previous`"]);
        assert!(!crash.contains("40s"), "it would be another sentence after the next crash: {crash}");
        says(&crashed("OOMKilled", 137), &["memory does not suffice", "sluice.io/resources"]);
    }

    #[test]
    fn ended_by_the_node() {
        let status = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
        says(&sentence(status), &["was ended by its node: Evicted: The node was low on resource: memory."]);
    }

    #[test]
    fn a_start_is_no_trouble_until_it_is_overdue() {
        let starting = pod(waiting("ContainerCreating", ""));
        let pulled = pod(waiting("ErrImagePull", "it will be tried again"));
        let running = pod(container(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), json!({})));
        let none = deployment(json!([]));
        assert_eq!(pod_trouble(&none, &[&starting, &pulled, &running], false), Vec::<String>::new());
        let late = pod_trouble(&none, &[&starting], true);
        says(&late[0], &["does not start", "`kubectl describe pod -n shop lb-svc-web-1`"]);
        assert_eq!(pod_trouble(&none, &[&starting, &starting], true), late, "none twice");
        let late = pod_trouble(&none, &[&running], true);
        says(&late[0], &["runs, but does not serve", "-- /sluice-gateway status"]);

        let mut ready = running.clone();
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        ready.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
        assert!(pod_trouble(&none, &[&ready], true).is_empty());
    }

    #[test]
    fn a_pod_that_goes_is_nobodys_trouble() {
        let mut dying = pod(waiting("CreateContainerError", ""));
        dying.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(pod_trouble(&deployment(json!([])), &[&dying], true).is_empty());
    }
}
