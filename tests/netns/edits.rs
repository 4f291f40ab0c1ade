//! Edits of the gateway file under load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::addresses::Family;
use sluice_tests::gateway::{GatewayUnderTest, Port, Service, Sluice, Spec, gateway_file};
use sluice_tests::kube_proxy::{ClusterIp, Forward, Protocol};
use sluice_tests::netns::Netns;
use sluice_tests::peers::{Client, Streams, TcpServer, UdpClient, UdpOutcome, UdpServer};
use sluice_tests::topology::Topology;
use sluice_tests::wait;

const TCP: u16 = 80;
const EXTRA: u16 = 81;
const UDP: u16 = 53;

/// The main ClusterIP leads to the first backend, the other one to the second.
fn topology() -> Topology {
    let mut builder = Topology::builder();
    for (cluster_ip, backend) in [(ClusterIp::Main, 0), (ClusterIp::Other, 1)] {
        for (protocol, port) in [(Protocol::Tcp, TCP), (Protocol::Tcp, EXTRA), (Protocol::Udp, UDP)] {
            builder = builder.forward(Forward {
                cluster_ip,
                protocol,
                port,
                backends: vec![backend],
                target_port: port,
            });
        }
    }
    builder.build().unwrap()
}

fn ports() -> Vec<Port> {
    vec![Port::new(Protocol::Tcp, TCP), Port::new(Protocol::Tcp, EXTRA), Port::new(Protocol::Udp, UDP)]
}

/// Two services: the one that is edited, and one whose clients must not notice.
fn spec() -> Spec {
    let bystander = Service { name: "default/bystander".to_owned(), ..Service::new(&ports()) };
    Spec { services: vec![Service::new(&ports()), bystander], ..Spec::default() }
}

struct Servers {
    _tcp: Vec<TcpServer>,
    udp: Vec<UdpServer>,
}

fn servers(topology: &Topology) -> Servers {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for (number, backend) in topology.backends.iter().enumerate() {
        tcp.extend([TCP, EXTRA].map(|port| TcpServer::start(backend, port, number).unwrap()));
        udp.push(UdpServer::start(backend, Family::V4.plan().backends[number], UDP).unwrap());
    }
    Servers { _tcp: tcp, udp }
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.plan().vip, port)
}

fn bystanders(netns: &Netns, count: usize) -> [Streams; 2] {
    Family::ALL
        .map(|family| Streams::start(netns, SocketAddr::new(family.plan().other_vip, TCP), count).unwrap())
}

/// Which backend answers a datagram.
fn answers(client: &mut UdpClient, servers: &Servers) -> usize {
    let (outcome, errors) = client.exchange(b"who is there?", wait::PATIENCE).unwrap();
    assert!(matches!(outcome, UdpOutcome::Reply(_)), "{outcome:?} {errors:?}");
    let seen: Vec<_> = servers.udp.iter().map(|server| server.take().len()).collect();
    match seen[..] {
        [1, 0] => 0,
        [0, 1] => 1,
        _ => panic!("one datagram was seen as {seen:?}"),
    }
}

#[test]
fn edits_act_at_once_and_only_where_they_are_made() {
    let topology = topology();
    let servers = servers(&topology);
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = spec();
    sluice.serve(&topology, &spec).unwrap();
    let bystanders = bystanders(&topology.far, 20);

    let mut old = Client::connect(&topology.client, vip(TCP)).unwrap();
    let mut doomed = Client::connect(&topology.client, vip(EXTRA)).unwrap();
    let mut datagrams = UdpClient::connect_any(&topology.client, vip(UDP)).unwrap();
    assert_eq!((old.who().unwrap().0, doomed.who().unwrap().0, answers(&mut datagrams, &servers)), (0, 0, 0));

    // A port that is removed stops, also for connections that are open.
    spec.services[0].ports.retain(|port| port.port != EXTRA);
    sluice.serve(&topology, &spec).unwrap();
    doomed.set_patience(Duration::from_secs(1)).unwrap();
    doomed.echo(b"anybody?").unwrap_err();
    let refused = Client::connect(&topology.client, vip(EXTRA)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    // A target that is changed: open TCP connections stay, new ones and datagrams go to the new one.
    spec.services[0].cluster_ip = ClusterIp::Other;
    sluice.serve(&topology, &spec).unwrap();
    assert_eq!(old.who().unwrap().0, 0, "an open connection stays where it is");
    assert_eq!(Client::connect(&topology.client, vip(TCP)).unwrap().who().unwrap().0, 1);
    assert_eq!(answers(&mut datagrams, &servers), 1, "datagrams of the same socket move");

    // A port that comes back.
    spec.services[0].ports = ports();
    sluice.serve(&topology, &spec).unwrap();
    assert_eq!(Client::connect(&topology.client, vip(EXTRA)).unwrap().who().unwrap().0, 1);
    assert_eq!(old.who().unwrap().0, 0);

    for streams in bystanders {
        streams.wait_rounds(1).unwrap();
        streams.finish().unwrap();
    }
}

#[test]
fn ten_thousand_edits_under_load() {
    const EDITS: usize = 10_000;
    let topology = topology();
    let _servers = servers(&topology);
    let mut sluice = Sluice::new(&topology).unwrap();
    let spec = spec();
    sluice.serve(&topology, &spec).unwrap();
    let bystanders = bystanders(&topology.far, 20);
    let mut old = Client::connect(&topology.client, vip(TCP)).unwrap();

    // Each edit differs from the one before: a port that comes and goes, a target that changes, a port that moves.
    let files: Vec<String> = (0..8_u16)
        .map(|variant| {
            let mut spec = spec.clone();
            if variant & 1 != 0 {
                spec.services[0].ports.retain(|port| port.port != EXTRA);
            }
            if variant & 2 != 0 {
                spec.services[0].cluster_ip = ClusterIp::Other;
            }
            spec.services[0].ports.push(Port {
                protocol: Protocol::Tcp,
                port: 9000 + variant,
                target_port: TCP,
            });
            gateway_file(&spec, topology.families()).unwrap()
        })
        .collect();
    let started = Instant::now();
    for edit in 0..EDITS {
        sluice.write(&files[edit % files.len()]).unwrap();
    }
    println!("{EDITS} edits written in {:.1?}", started.elapsed());
    sluice.edit(&topology, &spec).unwrap();
    println!("the last one in force after {:.1?}", started.elapsed());
    let edits = sluice.status().unwrap().config.unwrap().generation;
    println!("{edits} of them were taken one by one");

    assert_eq!(old.who().unwrap().0, 0, "an open connection survives all edits but the removal of its port");
    assert_eq!(Client::connect(&topology.client, vip(EXTRA)).unwrap().who().unwrap().0, 0);
    for variant in 0..8 {
        assert!(
            Client::connect(&topology.client, vip(9000 + variant)).is_err(),
            "port {} was left",
            9000 + variant
        );
    }
    for streams in bystanders {
        streams.wait_rounds(1).unwrap();
        streams.finish().unwrap();
    }
}

#[test]
fn an_edit_of_a_config_map_is_seen() {
    let topology = topology();
    let _servers = servers(&topology);
    let mut sluice = Sluice::new(&topology).unwrap();
    let mut spec = spec();
    let families = topology.families();
    sluice.write_config_map(&gateway_file(&spec, families).unwrap(), 1).unwrap();
    sluice.start(&topology).unwrap();
    for revision in 2..6 {
        spec.services[0].ports.push(Port {
            protocol: Protocol::Tcp,
            port: 9000 + revision,
            target_port: TCP,
        });
        let before = sluice.generation().unwrap();
        sluice.write_config_map(&gateway_file(&spec, families).unwrap(), revision.into()).unwrap();
        sluice.wait_in_force(before).unwrap();
        Client::connect(&topology.client, vip(9000 + revision)).unwrap();
    }
}
