//! Source ports towards one target: none is refused while there are enough, exhaustion is counted, and it passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_gateway_ebpf::verdict::Drop;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::packet;
use sluice_tests::peers::{PacketSender, UdpClient, UdpOutcome, UdpServer};
use sluice_tests::topology::Topology;
use sluice_tests::wait;

const PORT: u16 = 53;
/// Ports 1024 to 65535.
const TUPLES: usize = 64_512;
/// Idle seconds after which a flow's port is free again: enough to fill the table first.
const IDLE: u32 = 20;

/// Clients with random addresses and ports, none twice; the same ones each time.
fn clients(family: Family) -> impl Iterator<Item = SocketAddr> {
    let mut seen = std::collections::HashSet::new();
    let mut state: u64 = 0x1234_5678_9abc_def1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let host = (state >> 40) as u32 & 0x003f_ffff;
        let address: IpAddr = match family {
            Family::V4 => Ipv4Addr::from(0x6440_0000 | host).into(),
            Family::V6 => Ipv6Addr::from(0x2001_0db8_0064_u128 << 80 | u128::from(host)).into(),
        };
        SocketAddr::new(address, 1024 + ((state >> 16) % TUPLES as u64) as u16)
    })
    .filter(move |client| seen.insert(*client))
}

/// Where the clients' addresses are from: 100.64.0.0/10 and 2001:db8:64::/48.
const NOWHERE: &str = "route add blackhole 100.64.0.0/10\nroute add blackhole 2001:db8:64::/48";

#[test]
fn random_clients_share_the_ports_of_one_target() {
    share_the_ports(Family::V4);
}

#[test]
fn and_so_over_ipv6() {
    share_the_ports(Family::V6);
}

fn share_the_ports(family: Family) {
    let topology = Topology::builder().families(&[family]).unproxied().build().unwrap();
    topology.router.ip(NOWHERE).unwrap();
    let plan = family.plan();
    let _server = UdpServer::start(&topology.backends[0], plan.cluster_ip, PORT).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = Spec::of(&[Port::new(Protocol::Udp, PORT)]);
    spec.timeouts = vec![("udpUnreplied", IDLE), ("udpStream", IDLE)];
    sluice.serve(&topology, &spec).unwrap();

    let sender = PacketSender::new(&topology.client, family).unwrap();
    let mut clients = clients(family);
    let started = Instant::now();
    let mut send = |count: usize| {
        for from in clients.by_ref().take(count) {
            let datagram = packet::udp(from, SocketAddr::new(plan.vip, PORT), b"?");
            sender.send(&packet::whole(from.ip(), plan.vip, 17, &datagram), plan.vip).unwrap();
        }
    };
    let counters = |sluice: &Sluice| sluice.status().unwrap().services[0].counters;

    let enough = TUPLES * 9 / 10;
    send(enough);
    assert_eq!(sluice.dropped(Drop::PortsExhausted).unwrap(), 0, "refused below 90 % of the ports");
    assert_eq!(counters(&sluice).flows_opened, enough as u64, "every client has a flow");

    let beyond = TUPLES / 5;
    send(beyond);
    let refused = sluice.dropped(Drop::PortsExhausted).unwrap();
    let served = counters(&sluice).flows_opened;
    let filled = counters(&sluice).flows_active;
    assert!(
        started.elapsed() < Duration::from_secs(IDLE.into()),
        "too slow: flows expired while others were made"
    );
    println!("{} tuples in {:.1?}: {served} served, {refused} refused", enough + beyond, started.elapsed());
    // On a busy machine the server loses datagrams, and a flow that nobody has answered for five seconds gives way to a new one: more
    // are then served than there are ports, one after the other.
    assert!(filled <= TUPLES as u64, "{filled} flows share {TUPLES} ports");
    assert!(refused > 0, "nobody was refused");
    assert_eq!(served + refused, (enough + beyond) as u64, "each client is served or counted");
    assert!(filled * 100 >= TUPLES as u64 * 97, "only {filled} of {TUPLES} ports were found");

    // The flows go idle in the order in which they were made; then there are ports again.
    wait::until("ports are free again", Duration::from_secs(u64::from(IDLE) + 30), || {
        let before = sluice.dropped(Drop::PortsExhausted)?;
        send(1000);
        Ok((sluice.dropped(Drop::PortsExhausted)? == before).then_some(()))
    })
    .unwrap();
    let mut client = UdpClient::connect_any(&topology.client, SocketAddr::new(plan.vip, PORT)).unwrap();
    let (outcome, errors) = client.exchange(b"now?", wait::PATIENCE).unwrap();
    assert!(matches!(outcome, UdpOutcome::Reply(_)), "{outcome:?} {errors:?}");
}
