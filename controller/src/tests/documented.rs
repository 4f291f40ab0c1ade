//! docs/controller.md has what the code has.

use crate::api::annotation;
use crate::desired::Defaults;
use crate::events::EventReason;

const PAGE: &str = include_str!("../../../docs/controller.md");

#[test]
fn every_event_with_its_type() {
    for reason in EventReason::ALL {
        let kind = if reason.is_warning() { "Warning" } else { "Normal" };
        assert!(PAGE.contains(&format!("| `{reason}` | {kind} |")), "{reason} {kind}");
    }
    let rows = PAGE.lines().filter(|line| line.contains("` | Warning |") || line.contains("` | Normal |"));
    assert_eq!(rows.count(), EventReason::ALL.len());
}

#[test]
fn every_annotation() {
    let keys = [
        annotation::ATTACHMENT_PROVIDER,
        annotation::CLUSTER_LOGICAL_SWITCH,
        annotation::NETWORKS,
        annotation::SOURCE_RANGES,
        annotation::APPLIED,
        annotation::APPLIED_TEMPLATE,
        annotation::CONFIG_HASH,
        annotation::NETWORK_HASH,
        annotation::SERVICE_UID,
    ];
    for key in keys.into_iter().chain(annotation::OF_SERVICES) {
        assert!(PAGE.contains(&format!("`{key}`")), "{key}");
    }
    assert!(PAGE.contains(&format!("`{}`", annotation::LOAD_BALANCER_CLASS)));
}

#[test]
fn the_defaults() {
    let Defaults { unreachable_seconds, max_flows, .. } = Defaults::default();
    assert!(PAGE.contains(&format!("unreachable for {unreachable_seconds} s")));
    assert!(PAGE.contains(&format!("`--gateway-max-flows`: {max_flows}")));
}
