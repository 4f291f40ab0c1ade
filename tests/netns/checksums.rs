//! Transport checksums: those that the sender filled in, and those that it left to a device, which is to complete them behind the
//! gateway.

use std::net::SocketAddr;

use sluice_gateway::status::AttachMode;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::peers::{Client, UdpClient, UdpOutcome, pattern_hash};
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::{Builder, External, Place, Topology};
use sluice_tests::wait::{PATIENCE, until};

/// Bytes of a transfer in each direction, in super-packets.
const BULK: u64 = 1_000_000;

#[test]
fn checksums_are_right_whoever_fills_them_in() {
    right_through(script::topology());
}

/// XDP cannot tell a device to fill one in, and leaves such packets to tc.
#[test]
fn nor_does_xdp_spoil_them() {
    right_through(script::topology().external(External::Veth).takes_xdp());
}

fn right_through(topology: Builder) {
    let topology = topology.build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &script::spec()).unwrap();
    if topology.is_for_xdp() {
        // `auto` tries once the gateway serves.
        until("XDP is chosen", PATIENCE, || {
            Ok(sluice.status()?.attach.filter(|attach| attach.mode == AttachMode::Xdp))
        })
        .unwrap();
    }

    // The first device behind the gateway, in either direction, has to complete what is still open: as one with a wire behind it
    // has to, and unlike the receiving end of a virtual link, which takes an open checksum for a right one.
    topology.pod.set_checksum_offload("eth0", false).unwrap();
    for device in ["client0", "far0"] {
        topology.router.set_checksum_offload(device, false).unwrap();
    }
    for left_to_a_device in [true, false] {
        let [first, second] = &topology.backends;
        for sender in [&topology.client, &topology.far, first, second] {
            sender.set_checksum_offload("eth0", left_to_a_device).unwrap();
        }
        for family in Family::ALL {
            for place in Place::ALL {
                datagrams(&topology, place, family);
                segments(&topology, place, family);
            }
        }
    }
}

/// Questions and answers of a few sizes, odd ones too: a receiver drops what has a wrong checksum.
fn datagrams(topology: &Topology, place: Place, family: Family) {
    let to = SocketAddr::new(family.plan().vip, script::UDP);
    let mut client = UdpClient::connect_any(topology.client_at(place), to).unwrap();
    for size in [1, 2, 33, 512, 1200] {
        let (outcome, errors) = client.exchange(&vec![0x5a; size], PATIENCE).unwrap();
        assert!(
            matches!(outcome, UdpOutcome::Reply(_)),
            "{family:?}, {place:?}, {size} bytes: {outcome:?} {errors:?}"
        );
    }
}

/// Single segments and many at once. A segment with a wrong checksum is dropped and sent again, and again.
fn segments(topology: &Topology, place: Place, family: Family) {
    let to = SocketAddr::new(family.plan().vip, script::TCP);
    let mut client = Client::connect(topology.client_at(place), to).unwrap();
    for size in [1, 2, 33, 512, 1200] {
        client.echo(&vec![0xa5; size]).unwrap();
    }
    assert_eq!(client.upload(BULK).unwrap(), pattern_hash(BULK));
    assert_eq!(client.download(BULK).unwrap(), pattern_hash(BULK));
}
