//! `loadBalancerSourceRanges`, enforced in the kernel.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use sluice_gateway_ebpf::verdict::Drop;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::peers::Client;
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::{Place, Topology};

/// How a connection attempt from one of the clients ends.
fn attempt(topology: &Topology, place: Place, family: Family) -> Result<(), ErrorKind> {
    let to = SocketAddr::new(family.plan().vip, script::TCP);
    let connected = Client::connect_from(topology.client_at(place), None, to, Duration::from_millis(500));
    connected.map(drop).map_err(|error| error.kind())
}

#[test]
fn only_clients_in_the_ranges_may_connect() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    let ranges = |place: Place, whole: bool| -> Vec<IpNet> {
        let net = |family: Family| {
            IpNet::new_assert(
                place.address(family),
                if whole { family.bits() } else { family.bits() / 4 * 3 },
            )
            .trunc()
        };
        Family::ALL.map(net).to_vec()
    };
    for (allowed, refused) in [(Place::OnLink, Place::Far), (Place::Far, Place::OnLink)] {
        for whole in [true, false] {
            spec.services[0].source_ranges = ranges(allowed, whole);
            sluice.serve(&topology, &spec).unwrap();
            for family in Family::ALL {
                assert_eq!(attempt(&topology, allowed, family), Ok(()), "{allowed:?} {family:?}");
                let before = sluice.dropped(Drop::SourceRange).unwrap();
                assert_eq!(
                    attempt(&topology, refused, family),
                    Err(ErrorKind::TimedOut),
                    "{refused:?} {family:?}"
                );
                assert!(sluice.dropped(Drop::SourceRange).unwrap() > before, "the refusal is counted");
            }
        }
    }
    // Without ranges everybody may connect.
    spec.services[0].source_ranges = Vec::new();
    sluice.serve(&topology, &spec).unwrap();
    for family in Family::ALL {
        assert_eq!(attempt(&topology, Place::OnLink, family), Ok(()));
        assert_eq!(attempt(&topology, Place::Far, family), Ok(()));
    }
}
