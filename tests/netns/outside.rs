//! External networks of other kinds: without a router, with a silent one.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_gateway_ebpf::verdict::Drop;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::peers::Client;
use sluice_tests::script::{self, Servers};

fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(family.plan().vip, script::TCP)
}

#[test]
fn without_a_router_the_subnet_itself_is_served() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    spec.services[0].has_router = false;
    sluice.serve(&topology, &spec).unwrap();
    for family in Family::ALL {
        Client::connect(&topology.client, vip(family)).unwrap().echo(b"a neighbour").unwrap();
        let before = sluice.dropped(Drop::NoRoute).unwrap();
        let far = Client::connect_from(&topology.far, None, vip(family), Duration::from_millis(500));
        assert_eq!(far.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!(sluice.dropped(Drop::NoRoute).unwrap() > before, "what cannot be answered is counted");
    }
    // The subnet gets its router.
    spec.services[0].has_router = true;
    sluice.serve(&topology, &spec).unwrap();
    for family in Family::ALL {
        Client::connect(&topology.far, vip(family)).unwrap().echo(b"from afar").unwrap();
    }
}

#[test]
fn a_silent_router_delays_nobody() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    for family in Family::ALL {
        let plan = family.plan();
        topology.router.ip(&format!("addr del {}/{} dev br0", plan.gateway, plan.external_prefix)).unwrap();
    }
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &script::spec()).unwrap();
    for family in Family::ALL {
        Client::connect(&topology.client, vip(family)).unwrap().echo(b"a neighbour").unwrap();
    }
}
