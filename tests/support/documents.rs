//! The documents say what the code does, where the two can be compared.

use sluice_gateway_ebpf::maps::{FAMILY_MAPS, SHARED_MAPS};
use sluice_gateway_ebpf::verdict::Drop;

const PACKET_FLOW: &str = include_str!("../../docs/packet-flow.md");

/// The first cells of the table rows, without their backticks.
fn rows() -> Vec<&'static str> {
    PACKET_FLOW
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn the_packet_flow_lists_every_drop_reason_and_every_map() {
    let rows = rows();
    let reasons = Drop::ALL.map(Drop::name).into_iter().map(str::to_owned);
    let maps = FAMILY_MAPS.map(|stem| format!("{stem}_v4/6")).into_iter();
    let expected: Vec<String> = reasons.chain(maps).chain(SHARED_MAPS.map(str::to_owned)).collect();
    for name in &expected {
        assert!(rows.contains(&name.as_str()), "docs/packet-flow.md has no row for {name}");
    }
    for row in rows {
        assert!(
            expected.iter().any(|name| name == row),
            "docs/packet-flow.md has a row for {row}, which is gone"
        );
    }
}
