//! When flows end: idle, FIN, RST; and that they do not end before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_gateway_ebpf::verdict::Drop;
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Sluice, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::peers::{Client, Reset, TcpServer, UdpClient, UdpOutcome, UdpServer};
use sluice_tests::topology::Topology;
use sluice_tests::wait;

const TCP: u16 = 80;
const UDP: u16 = 53;
/// Idle seconds of connections, and of streams of datagrams.
const IDLE: u32 = 5;
/// Idle seconds after an end.
const ENDED: u32 = 2;
/// The clock counts whole seconds: an entry may be up to a second older than it looks.
const TICK: Duration = Duration::from_secs(1);

fn topology() -> Topology {
    Topology::builder().families(&[Family::V4]).unproxied().build().unwrap()
}

fn spec() -> Spec {
    let mut spec = Spec::of(&[Port::new(Protocol::Tcp, TCP), Port::new(Protocol::Udp, UDP)]);
    spec.timeouts = vec![
        ("tcpEstablished", IDLE),
        ("tcpFin", ENDED),
        ("tcpClosed", ENDED),
        ("tcpTimeWait", ENDED),
        ("udpUnreplied", ENDED),
        ("udpStream", IDLE),
    ];
    spec
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.plan().vip, port)
}

/// Flows of all services, as counted by the programs: made, and there now.
fn flows(sluice: &Sluice) -> (u64, u64) {
    let services = sluice.status().unwrap().services;
    services.iter().map(|row| row.counters).fold((0, 0), |(opened, active), counters| {
        (opened + counters.flows_opened, active + counters.flows_active)
    })
}

/// Waits until the table is empty and returns how long it took.
fn until_empty(sluice: &Sluice) -> Duration {
    let started = Instant::now();
    wait::until("the flow table is empty", Duration::from_secs(30), || {
        Ok((flows(sluice).1 == 0).then_some(()))
    })
    .unwrap();
    started.elapsed()
}

#[test]
fn idle_connections_expire_and_busy_ones_do_not() {
    let topology = topology();
    let _server = TcpServer::start(&topology.backends[0], TCP, 0).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec()).unwrap();

    let mut client = Client::connect(&topology.client, vip(TCP)).unwrap();
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_secs(u64::from(IDLE) + 2) {
        client.echo(b"still here").unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(flows(&sluice), (1, 1));
    let idle = until_empty(&sluice);
    assert!(idle + TICK >= Duration::from_secs(IDLE.into()), "gone after {idle:?} already");

    let before = sluice.dropped(Drop::NoFlow).unwrap();
    client.set_patience(Duration::from_secs(1)).unwrap();
    client.echo(b"too late").unwrap_err();
    assert!(sluice.dropped(Drop::NoFlow).unwrap() > before, "segments of a forgotten connection are counted");
}

#[test]
fn ended_connections_expire_soon() {
    let topology = topology();
    let _server = TcpServer::start(&topology.backends[0], TCP, 0).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = spec();
    // Long, so that only an end explains an empty table.
    spec.timeouts[0] = ("tcpEstablished", 3600);
    sluice.serve(&topology, &spec).unwrap();

    type End = fn(Client) -> anyhow::Result<()>;
    let ends: [(&str, End); 4] = [
        ("FIN by the client", |client| client.half_close(b"the last words")),
        ("FIN by the server", Client::close_by_server),
        ("RST by the client", |client| client.reset(Reset::ByClient)),
        ("RST by the server", |client| client.reset(Reset::ByServer)),
    ];
    let clients = ends.map(|_| Client::connect(&topology.client, vip(TCP)).unwrap());
    assert_eq!(flows(&sluice), (4, 4));
    for ((name, end), mut client) in ends.into_iter().zip(clients) {
        client.echo(b"hello").unwrap();
        end(client).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    until_empty(&sluice);
}

/// The sweep has not deleted the old flow yet when its client comes back: what is made then is a connection like any other.
#[test]
fn a_source_port_used_again_makes_a_connection_of_its_own() {
    let topology = topology();
    let _server = TcpServer::start(&topology.backends[0], TCP, 0).unwrap();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec()).unwrap();
    let from = SocketAddr::new(Family::V4.plan().client, 40_000);
    let connect = || Client::connect_from(&topology.client, Some(from), vip(TCP), wait::PATIENCE).unwrap();

    let mut first = connect();
    first.echo(b"first").unwrap();
    first.reset(Reset::ByClient).unwrap();
    std::thread::sleep(PAUSE);
    let mut second = connect();
    second.echo(b"second").unwrap();
    std::thread::sleep(PAUSE);
    second.echo(b"idle for longer than the end of the first one was remembered").unwrap();
    assert_eq!(flows(&sluice).0, 2, "each connection counts");
}

/// Time that passes without a packet: longer than a single exchange is kept, shorter than a stream.
const PAUSE: Duration = Duration::from_millis(3500);

#[test]
fn datagrams_expire_by_whether_they_were_answered() {
    let topology = topology();
    let mut sluice = Sluice::new(&topology).unwrap();
    sluice.serve(&topology, &spec()).unwrap();
    let _server = UdpServer::start(&topology.backends[0], Family::V4.plan().cluster_ip, UDP).unwrap();
    let exchange = |client: &mut UdpClient| {
        let (outcome, errors) = client.exchange(b"?", wait::PATIENCE).unwrap();
        assert!(matches!(outcome, UdpOutcome::Reply(_)), "{outcome:?} {errors:?}");
    };

    let mut single = UdpClient::connect_any(&topology.client, vip(UDP)).unwrap();
    exchange(&mut single);
    std::thread::sleep(PAUSE);
    exchange(&mut single);
    assert_eq!(
        flows(&sluice).0,
        2,
        "the first exchange was forgotten, so that the second made a flow of its own"
    );

    let mut stream = UdpClient::connect_any(&topology.client, vip(UDP)).unwrap();
    let started = Instant::now();
    while started.elapsed() < PAUSE {
        exchange(&mut stream);
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(PAUSE);
    exchange(&mut stream);
    assert_eq!(flows(&sluice).0, 3, "a stream outlives a pause");
    until_empty(&sluice);
}
