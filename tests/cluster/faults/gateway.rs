//! The gateway's container and pod end. Nobody else notices: these run beside other cases.

use std::time::Duration;

use super::Account;
use super::served::{Served, signal_container};
use crate::case::Case;

/// How soon another pod has to serve: what Kube-OVN's own tests grant.
const REPLACED: Duration = Duration::from_secs(30);

/// The container is started again by the kubelet; the packets' path is in the kernel and stays.
fn container_ends_by(signal: &str, name: &str) {
    let case = Case::new(name);
    case.start_backends();
    let served = Served::start(&case, "web", "");
    let pod = served.ready_pod(None);
    let load = served.load();
    signal_container(&case, &pod, signal);
    case.eventually("the container runs again", || {
        let pods = case.gateway_pods("web");
        let status = &pods.first()?["status"]["containerStatuses"][0];
        (status["restartCount"].as_u64() >= Some(1) && status["ready"] == true).then_some(())
    });
    served.assert_edits_arrive(8001);
    assert_eq!(served.ready_pod(None)["metadata"]["uid"], pod["metadata"]["uid"]);
    let mut account = Account::default();
    account.nothing_lost(&format!("gateway's process ends ({signal})"), &load.stop());
    account.close();
}

#[test]
fn a_gateway_that_is_killed_loses_nothing() {
    container_ends_by("SIGKILL", "gateway-killed");
}

#[test]
fn a_gateway_that_is_told_to_end_loses_nothing() {
    container_ends_by("SIGTERM", "gateway-told");
}

#[test]
fn a_deleted_pod_is_replaced_in_seconds() {
    let case = Case::new("gateway-deleted");
    case.start_backends();
    let served = Served::start(&case, "web", "");
    let pod = served.ready_pod(None);
    let load = served.load();
    case.kubectl(&["delete", "pod", pod["metadata"]["name"].as_str().unwrap(), "--wait=false"]);
    served.ready_pod(pod["metadata"]["uid"].as_str());
    load.wait_until_served(REPLACED);
    served.assert_edits_arrive(8001);
    let mut account = Account::default();
    account.back_within(REPLACED, "gateway's pod is deleted", &load.stop());
    account.close();
}
