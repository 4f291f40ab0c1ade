//! Whole nodes end. On a cluster of their own with two nodes: the backends are on the first, the gateway starts on the second.

use std::time::Duration;

use super::served::{BACK, Served};
use super::timeline::Timeline;
use super::{Account, report};
use crate::case::{CAUGHT_UP, Case, within};
use crate::site;

/// What may come on top of the time in which Kubernetes sees that a node is lost: 5 s are ours, the rest is for a busy machine.
const AFTER_DETECTION: Duration = Duration::from_secs(45);
/// How often somebody who does not know the address asks for it.
const LOOKUPS: usize = 10;
/// The label of the nodes that a gateway may be on.
const PLACE: &str = "sluice-tests";

/// The power of the second node is gone, and comes back at once.
#[test]
fn a_node_that_restarts_serves_again() {
    let mut cluster = site::start("-restart", 2);
    let mut account = Account::default();
    let case = Case::on(&cluster, "nodes");
    start_backends_on_first(&case);

    let served = start_on_second(&case, "web");
    let pod = served.ready_pod(None);
    let load = served.load();
    let (address, parts) = (served.address, case.part());
    cluster.node(2).unwrap().kill().unwrap();
    cluster.boot_node(2).unwrap();
    let case = Case::rejoin(&cluster, parts);
    let served = Served::again(&case, "web", address);
    load.wait_until_served(BACK);
    served.assert_edits_arrive(8001);
    assert_eq!(
        served.ready_pod(None)["metadata"]["uid"],
        pod["metadata"]["uid"],
        "the same pod in a new sandbox"
    );
    account.back_within(BACK, "gateway's node restarts", &load.stop());
    account.close();
}

#[test]
fn a_node_that_is_lost_is_replaced() {
    let cluster = site::start("-nodes", 2);
    let mut account = Account::default();
    let case = Case::on(&cluster, "nodes");
    start_backends_on_first(&case);
    cut_off(&case, &mut account);
    dies(&case, &mut account);
    account.close();
}

/// The gateway's node goes on, but neither control plane nor backends are reached from it; the network outside is.
fn cut_off(case: &Case, account: &mut Account) {
    let served = start_on_second(case, "cut-off");
    let old = served.ready_pod(None);
    let uid = old["metadata"]["uid"].as_str().unwrap();
    free_to_move(case, "cut-off");
    let load = served.load();
    case.cluster.set_partitioned(2, true).unwrap();
    let timeline = Timeline::follow(case, "cut-off", "node2", uid, &load);
    load.wait_until_served(BACK);
    served.assert_edits_arrive(8001);
    account.moved_within(AFTER_DETECTION, "gateway's node is cut off", &timeline, &load.stop());

    let astray = || (0..LOOKUPS).filter(|_| !is_found(case, &served.address)).count();
    report(&format!("while it is cut off, new clients find the old gateway: {} of {LOOKUPS}", astray()));
    case.cluster.set_partitioned(2, false).unwrap();
    within(CAUGHT_UP, "the old gateway is gone", || {
        case.list("pods", "app=lb-svc-cut-off").iter().all(|pod| pod["metadata"]["uid"] != uid).then_some(())
    });
    assert_eq!(astray(), 0, "there is one gateway again");
}

/// The gateway's node is dead for good.
fn dies(case: &Case, account: &mut Account) {
    let served = start_on_second(case, "dead");
    let pod = served.ready_pod(None);
    free_to_move(case, "dead");
    let load = served.load();
    case.cluster.node(2).unwrap().kill().unwrap();
    let timeline = Timeline::follow(case, "dead", "node2", pod["metadata"]["uid"].as_str().unwrap(), &load);
    load.wait_until_served(BACK);
    served.assert_edits_arrive(8001);
    account.moved_within(AFTER_DETECTION, "gateway's node is dead", &timeline, &load.stop());
}

/// Starts backends on the first node.
fn start_backends_on_first(case: &Case) {
    case.kubectl(&["cordon", "node2"]);
    case.start_backends();
    case.kubectl(&["uncordon", "node2"]);
}

/// A Service whose gateway is on the second node.
fn start_on_second<'c>(case: &'c Case<'c>, name: &'static str) -> Served<'c> {
    case.kubectl(&["label", "node", "node2", &format!("{PLACE}={name}"), "--overwrite"]);
    Served::start(case, name, &format!("{PLACE}={name}"))
}

/// From now on the gateway may be on the first node as well.
fn free_to_move(case: &Case, name: &str) {
    case.kubectl(&["label", "node", "node1", &format!("{PLACE}={name}"), "--overwrite"]);
}

/// Whether the client is served when it does not know who has the address, and so asks for it.
fn is_found(case: &Case, address: &str) -> bool {
    case.cluster.client.ip(&format!("neigh flush to {address}")).unwrap();
    case.hostname(address).is_ok()
}
