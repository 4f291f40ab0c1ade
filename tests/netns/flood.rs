//! A SYN flood whose SYNs the backend answers: open connections stay, and new ones come through.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::packet::{self, SYN};
use sluice_tests::peers::{Client, PacketSender, Streams, TcpServer};
use sluice_tests::topology::Topology;

const PORT: u16 = 80;
/// Spoofed sources, each with an address of its own.
const SOURCES: u32 = 1_000_000;
/// Attempts at a new connection while the flood goes on, at least.
const ATTEMPTS: usize = 100;

fn vip() -> SocketAddr {
    SocketAddr::new(Family::V4.plan().vip, PORT)
}

/// Sends one SYN from each source of `sources`, which count from 100.64.0.0.
fn flood(netns: &Netns, sources: std::ops::Range<u32>) {
    let sender = PacketSender::new(netns, Family::V4).unwrap();
    let to = vip().ip();
    for source in sources {
        let address = IpAddr::from(Ipv4Addr::from(0x6440_0000 + source));
        let from = SocketAddr::new(address, 1024 + (source.wrapping_mul(40_503) % 64_512) as u16);
        let segment = packet::tcp(from, vip(), SYN, source, 0);
        sender.send(&packet::whole(address, to, 6, &segment), to).unwrap();
    }
}

#[test]
fn a_flood_of_answered_syns_harms_nobody() {
    let topology = Topology::builder().families(&[Family::V4]).unproxied().build().unwrap();
    topology.router.ip("route add blackhole 100.64.0.0/10").unwrap();
    let _server = TcpServer::start(&topology.backends[0], PORT, 0).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &Spec::of(&[Port::new(Protocol::Tcp, PORT)])).unwrap();
    let live = [&topology.client, &topology.far].map(|netns| Streams::start(netns, vip(), 100).unwrap());

    let started = Instant::now();
    let over = AtomicBool::new(false);
    let mut outcomes = Vec::new();
    std::thread::scope(|scope| {
        let halves = [0..SOURCES / 2, SOURCES / 2..SOURCES];
        let floods = halves.map(|half| scope.spawn(|| flood(&topology.client, half)));
        let attempts = scope.spawn(|| {
            let mut outcomes = Vec::new();
            while !over.load(Ordering::Relaxed) || outcomes.len() < ATTEMPTS {
                let connected = Client::connect_from(&topology.far, None, vip(), Duration::from_secs(10));
                let worked =
                    connected.map_err(anyhow::Error::from).and_then(|mut client| client.echo(b"through"));
                outcomes.push(worked.map_err(|error| format!("{error:#}")));
            }
            outcomes
        });
        for flood in floods {
            flood.join().unwrap();
        }
        println!("{SOURCES} spoofed SYNs in {:.1?}", started.elapsed());
        over.store(true, Ordering::Relaxed);
        outcomes = attempts.join().unwrap();
    });

    let counters = sluice.status().unwrap().services[0].counters;
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    println!("{} of {} new connections failed; {counters:?}", failures.len(), outcomes.len());
    let drops: Vec<_> = sluice.status().unwrap().drops.into_iter().filter(|drop| drop.packets > 0).collect();
    println!("dropped: {drops:?}");
    assert!(
        counters.flows_opened > u64::from(SOURCES) * 9 / 10,
        "the flood did not reach the backend: {counters:?}, {drops:?}"
    );
    assert!(failures.len() * 100 <= outcomes.len(), "new connections failed: {failures:?}");
    for streams in live {
        streams.wait_rounds(1).unwrap();
        streams.finish().unwrap();
    }
}
