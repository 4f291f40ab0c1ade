//! What is refused is counted, and ICMP errors are not made without limit.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_gateway_ebpf::verdict::Drop;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Sluice};
use sluice_tests::packet;
use sluice_tests::peers::{IcmpListener, PacketSender, UdpClient, UdpOutcome};
use sluice_tests::script::{self, Servers};
use sluice_tests::topology::Place;
use sluice_tests::wait;

#[test]
fn icmp_errors_are_limited() {
    const RATE: u32 = 5;
    const BURST: u64 = 500;
    let topology = script::topology().build().unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = script::spec();
    spec.icmp_errors_per_second = Some(RATE);
    sluice.serve(&topology, &spec).unwrap();
    for family in Family::ALL {
        let mut errors = IcmpListener::new(&topology.client, family).unwrap();
        let client =
            UdpClient::connect_any(&topology.client, SocketAddr::new(family.plan().vip, script::UDP))
                .unwrap();
        client.set_ttl(1).unwrap();
        client.socket().set_nonblocking(false).unwrap();
        let before = sluice.dropped(Drop::TtlExceeded).unwrap();
        let (started, mut sent, mut seen) = (Instant::now(), 0_u64, 0_u64);
        // The other family may have spent this second's budget.
        wait::until("an ICMP error", wait::PATIENCE, || {
            for _ in 0..BURST {
                client.socket().send(b"too old")?;
            }
            sent += BURST;
            seen += errors.drain()?.len() as u64;
            Ok((seen > 0).then_some(()))
        })
        .unwrap();
        wait::until("all packets are counted", wait::PATIENCE, || {
            Ok((sluice.dropped(Drop::TtlExceeded)? == before + sent).then_some(()))
        })
        .unwrap();
        seen += errors.drain().unwrap().len() as u64;
        let seconds = started.elapsed().as_secs() + 2;
        let cpus = std::thread::available_parallelism().unwrap().get() as u64;
        assert!(seen <= seconds * cpus * u64::from(RATE), "{seen} errors in {seconds} s on {cpus} CPUs");
    }
}

#[test]
fn a_fragment_without_its_first_is_counted() {
    let topology = script::topology().build().unwrap();
    let _servers = Servers::start(&topology).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &script::spec()).unwrap();
    for (id, (family, place)) in (100_u16..).zip([
        (Family::V4, Place::OnLink),
        (Family::V4, Place::Far),
        (Family::V6, Place::OnLink),
        (Family::V6, Place::Far),
    ]) {
        let (from, to) =
            (SocketAddr::new(place.address(family), 5000), SocketAddr::new(family.plan().vip, script::UDP));
        let sender = PacketSender::new(topology.client_at(place), family).unwrap();
        let datagram = packet::udp(from, to, &[9; 3000]);
        let parts = packet::fragments(from.ip(), to.ip(), 17, id, &datagram, 1200);
        let before = sluice.dropped(Drop::FragmentUnknown).unwrap();
        for part in parts.iter().skip(1) {
            sender.send(part, to.ip()).unwrap();
        }
        wait::until("both later fragments are counted", wait::PATIENCE, || {
            Ok((sluice.dropped(Drop::FragmentUnknown)? == before + 2).then_some(()))
        })
        .unwrap();
        // Sent once more, the first one first, the datagram arrives.
        let mut client = UdpClient::connect(topology.client_at(place), from, to).unwrap();
        for part in &parts {
            sender.send(part, to.ip()).unwrap();
        }
        let (outcome, errors) = client.wait(Duration::from_secs(5)).unwrap();
        assert!(
            matches!(&outcome, UdpOutcome::Reply(reply) if reply.length == 3000),
            "{outcome:?} {errors:?}"
        );
    }
}
