//! Many at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Case, within};

/// How many Services, of which one can never start.
const CROWD: usize = 50;
/// How long all may take, on two CPUs: a pod with two networks is about a second of work for the node.
const ALL: Duration = Duration::from_secs(240);
const NEVER: &str = "never";

#[test]
fn fifty_at_once_of_which_one_can_never_start() {
    let case = Case::alone("crowd");
    case.start_backends();
    let mut never = case.service(NEVER, &json!({}));
    never["metadata"]["annotations"]["sluice.io/node-selector"] = json!("nowhere=true");
    let mut services = vec![never];
    for number in 1..CROWD {
        let mut service = case.service(&format!("web-{number}"), &json!({}));
        // Small tables: fifty of the default size would take as much memory as a small machine has.
        service["metadata"]["annotations"]["sluice.io/max-flows"] = json!("1024");
        services.push(service);
    }
    case.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": services }));
    let addresses = within(ALL, "all others are published", || {
        let published: Vec<String> = case
            .list("services", "")
            .iter()
            .filter_map(|service: &Value| {
                Some(service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
            })
            .collect();
        (published.len() == CROWD - 1).then_some(published)
    });
    let mut different = addresses.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), addresses.len(), "{addresses:?}");
    for address in addresses {
        case.assert_served(&address);
    }
    assert_eq!(case.addresses(NEVER), [""; 0]);
    case.event(NEVER, "GatewayNotReady", "node");

    case.kubectl(&["delete", "services", "--all", "--wait=false"]);
    within(ALL, "all are gone, with their pods", || {
        let is_gone = case.list("services", "").is_empty() && case.list("pods", "service").is_empty();
        is_gone.then_some(())
    });
}
