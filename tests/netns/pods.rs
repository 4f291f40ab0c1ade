//! A pod that is re-created on the same node.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::peers::Client;
use sluice_tests::script::{self, Servers};
use sluice_tests::wait;

/// Flow tables of a size that no other test uses, to find them by.
const FLOWS: u32 = 2048;

fn flow_tables() -> usize {
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    maps.filter(|map| map.name_as_str() == Some("flows_v4") && map.max_entries() == FLOWS).count()
}

#[test]
fn a_new_pod_serves_at_once_and_takes_away_what_the_old_one_left() {
    let mut topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    spec.max_flows = Some(FLOWS);
    for pod in 0..4 {
        sluice.set_gateway_id(&format!("test-{pod}"));
        sluice.serve(&topology, &spec).unwrap();
        for family in Family::ALL {
            for netns in [&topology.client, &topology.far] {
                let to = SocketAddr::new(family.plan().vip, script::TCP);
                Client::connect(netns, to).unwrap().echo(b"the new pod").unwrap();
            }
        }
        let pinned = sluice.pinned_gateways(&topology).unwrap();
        assert!(
            pinned.contains(&format!("test-{pod}")) && pinned.lines().count() == 1,
            "left in place: {pinned}"
        );
        wait::until("only this pod has maps", wait::PATIENCE, || Ok((flow_tables() == 1).then_some(())))
            .unwrap();
        // Pods die without notice.
        sluice.stop(Signal::SIGKILL).unwrap();
        topology.recreate_pod().unwrap();
    }
}
