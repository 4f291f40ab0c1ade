//! The same scripted traffic through Sluice and through the original's iptables rules.

use std::time::Instant;

use sluice_tests::gateway::{GatewayUnderTest, Iptables, Sluice};
use sluice_tests::record::{Record, compare};
use sluice_tests::script::{self, Extent};
use sluice_tests::topology::{Builder, Topology};

fn observe<G: GatewayUnderTest>(
    make: impl FnOnce(&Topology) -> G,
    topology: Builder,
    extent: Extent,
) -> Record {
    let started = Instant::now();
    let topology = topology.build().unwrap();
    let mut gateway = make(&topology);
    gateway.serve(&topology, &script::spec()).unwrap();
    let record = script::run(&topology, extent).unwrap();
    println!("{}: {} cases in {:.1?}", gateway.name(), record.len(), started.elapsed());
    record
}

/// A network whose external side has the smaller MTU: replies are what does not fit.
fn narrow_outside() -> Builder {
    script::topology().external_mtu(1300)
}

/// The yardstick itself: the oracle agrees with itself, so what a comparison finds is not chance.
#[test]
fn the_oracle_agrees_with_itself() {
    for (topology, extent) in [(script::topology(), Extent::Everything), (narrow_outside(), Extent::Sizes)] {
        let first = observe(|_| Iptables::mended(), topology.clone(), extent);
        let second = observe(|_| Iptables::mended(), topology, extent);
        let complaints = compare(&first, &second, &[]);
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

#[test]
fn sluice_is_netfilter() {
    let ours = observe(|topology| Sluice::new(topology).unwrap(), script::topology(), Extent::Everything);
    let theirs = observe(|_| Iptables::mended(), script::topology(), Extent::Everything);
    let complaints = compare(&ours, &theirs, &[]);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
