//! The traffic that runs once through Sluice and once through netfilter, and what is observed of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::addresses::Family;
use crate::gateway::{Port, Spec};
use crate::kube_proxy::{ClusterIp, Forward, Protocol};
use crate::packet::{self, Checksum};
use crate::peers::{
    Client, Datagram, IcmpListener, IcmpSeen, PacketSender, Reset, SynListener, TcpServer, UdpClient,
    UdpOutcome, UdpServer, echo_request, pattern_hash,
};
use crate::record::Record;
use crate::topology::{Builder, Place, Topology};
use crate::wait;

/// TCP port of the VIP; the ClusterIP has the same, the backends 8080.
pub const TCP: u16 = 80;
/// UDP port of the VIP; the backends listen at 5353.
pub const UDP: u16 = 53;
/// A TCP port behind which no backend listens.
pub const DEAF_TCP: u16 = 81;
/// A UDP port behind which no backend listens.
pub const DEAF_UDP: u16 = 54;
/// A port that is not the service's.
pub const UNSERVED: u16 = 4444;
/// Ports of the backends.
const BACKEND_TCP: u16 = 8080;
const BACKEND_UDP: u16 = 5353;

/// How long to wait for what may not come: everything is on this machine.
const LOST: Duration = Duration::from_millis(400);
/// Bytes of a bulk transfer.
const BULK: u64 = 100 * 1000 * 1000;
/// First source port of a place's cases: both runs use the same, and no two places share one.
const fn first_port(place: Place) -> u16 {
    match place {
        Place::OnLink => 30_000,
        Place::Far => 40_000,
    }
}

/// The topology that the script needs.
pub fn topology() -> Builder {
    let forward = |protocol, port, target_port| Forward {
        cluster_ip: ClusterIp::Main,
        protocol,
        port,
        backends: vec![0, 1],
        target_port,
    };
    Topology::builder()
        .forward(forward(Protocol::Tcp, TCP, BACKEND_TCP))
        .forward(forward(Protocol::Udp, UDP, BACKEND_UDP))
        .forward(forward(Protocol::Tcp, DEAF_TCP, 9999))
        .forward(forward(Protocol::Udp, DEAF_UDP, 9999))
}

/// What the gateway must serve for the script.
pub fn spec() -> Spec {
    Spec::of(&[
        Port::new(Protocol::Tcp, TCP),
        Port::new(Protocol::Udp, UDP),
        Port::new(Protocol::Tcp, DEAF_TCP),
        Port::new(Protocol::Udp, DEAF_UDP),
    ])
}

/// The servers of both backends.
#[derive(Debug)]
pub struct Servers {
    _tcp: Vec<TcpServer>,
    udp: Vec<(Family, UdpServer)>,
}

impl Servers {
    /// Starts them.
    pub fn start(topology: &Topology) -> Result<Self> {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for (number, backend) in topology.backends.iter().enumerate() {
            tcp.push(TcpServer::start(backend, BACKEND_TCP, number)?);
            for &family in topology.families() {
                udp.push((family, UdpServer::start(backend, family.plan().backends[number], BACKEND_UDP)?));
            }
        }
        Ok(Self { _tcp: tcp, udp })
    }
}

/// How much of the script to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Everything,
    /// What depends on the links' MTUs.
    Sizes,
    /// What the gateway itself answers.
    Answers,
}

/// Runs the script.
///
/// # Errors
/// When a peer itself fails; what the network does is noted.
pub fn run(topology: &Topology, extent: Extent) -> Result<Record> {
    let servers = Servers::start(topology)?;
    let mut record = Record::default();
    for &family in topology.families() {
        for place in Place::ALL {
            let mut run = Run {
                topology,
                servers: &servers,
                family,
                place,
                case: String::new(),
                next_port: first_port(place),
                record: &mut record,
            };
            let done = match extent {
                Extent::Everything => run.everything(),
                Extent::Sizes => run.sizes(),
                Extent::Answers => run.answers(),
            };
            done.with_context(|| format!("{} from the {} client", family.name(), place.name()))?;
        }
    }
    Ok(record)
}

struct Run<'a> {
    topology: &'a Topology,
    servers: &'a Servers,
    family: Family,
    place: Place,
    case: String,
    next_port: u16,
    record: &'a mut Record,
}

impl Run<'_> {
    fn everything(&mut self) -> Result<()> {
        self.ping()?;
        self.tcp_handshake()?;
        self.tcp_transfers()?;
        self.tcp_endings()?;
        self.tcp_refusals()?;
        self.tcp_unknown()?;
        // A packet quoted in an ICMP error has a checksum to compare only if its sender filled it in.
        self.netns().set_checksum_offload("eth0", false)?;
        self.udp_headers()?;
        self.udp_refusals()?;
        self.udp_sizes()?;
        self.udp_every_size()?;
        self.fragments()?;
        self.traceroute()?;
        self.netns().set_checksum_offload("eth0", true)
    }

    fn sizes(&mut self) -> Result<()> {
        self.tcp_handshake()?;
        self.tcp_transfers()?;
        self.forget_path_mtus()?;
        for netns in [self.netns(), &self.topology.backends[0], &self.topology.backends[1]] {
            netns.set_checksum_offload("eth0", false)?;
        }
        self.udp_sizes()
    }

    fn answers(&mut self) -> Result<()> {
        // Clients leave checksums to their device, and the last device before them completes what is still open, as any
        // that has a wire behind it.
        self.topology.router.set_checksum_offload("client0", false)?;
        self.topology.router.set_checksum_offload("far0", false)?;
        self.ping()?;
        self.tcp_refusals()?;
        self.traceroute()?;
        self.path_mtu()
    }

    fn begin(&mut self, case: &str) {
        self.case = format!("{}/{}/{case}", self.family.name(), self.place.name());
    }

    fn note(&mut self, field: &'static str, value: impl std::fmt::Debug) {
        self.record.note(&self.case, field, value);
    }

    fn vip(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.family.plan().vip, port)
    }

    fn netns(&self) -> &crate::netns::Netns {
        self.topology.client_at(self.place)
    }

    /// A source address that both runs use.
    fn source(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::new(self.place.address(self.family), self.next_port)
    }

    /// Forgets path MTUs, so that cases do not depend on each other.
    fn forget_path_mtus(&self) -> Result<()> {
        let option = match self.family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        for netns in [self.netns(), &self.topology.backends[0], &self.topology.backends[1]] {
            netns.output("ip", &[option, "route", "flush", "cache"])?;
        }
        Ok(())
    }

    fn connect(&mut self, port: u16) -> std::io::Result<Client> {
        let source = self.source();
        Client::connect_from(self.netns(), Some(source), self.vip(port), Duration::from_secs(3))
    }

    fn ping(&mut self) -> Result<()> {
        for size in [0, 1, 56, 1400, 3000, 8000] {
            self.begin(&format!("ping/{size}"));
            let answer = echo_request(self.netns(), self.family.plan().vip, size, LOST);
            self.note("answer", answer.map_err(|error| error.to_string()));
        }
        Ok(())
    }

    fn tcp_handshake(&mut self) -> Result<()> {
        self.begin("tcp/handshake");
        let [first, second] = &self.topology.backends;
        let mut backends = [SynListener::new(first, self.family)?, SynListener::new(second, self.family)?];
        let mut here = SynListener::new(self.netns(), self.family)?;
        let mut client = self.connect(TCP).context("connecting for the first time")?;
        let (number, peer) = client.who()?;
        self.note("peer", peer);
        let syn = backends[number].wait("the SYN at the backend")?;
        self.note("syn at the backend", (syn.from, syn.ttl, syn.tos, syn.ack, &syn.options));
        self.note("MSS at the backend", syn.mss);
        let syn_ack = here.wait("the SYN-ACK at the client")?;
        self.note(
            "syn-ack at the client",
            (syn_ack.from, syn_ack.ttl, syn_ack.tos, syn_ack.ack, &syn_ack.options),
        );
        self.note("MSS at the client", syn_ack.mss);
        Ok(())
    }

    fn tcp_transfers(&mut self) -> Result<()> {
        self.begin("tcp/echo");
        let mut client = self.connect(TCP)?;
        for size in [1, 2, 3, 1359, 1360, 1361, 1459, 1460, 1461, 65_535, 1_000_003] {
            client.echo(&vec![0xa5; size]).with_context(|| format!("echo of {size} bytes"))?;
        }
        self.note("echo", "same");
        client.half_close(&vec![0x5a; 300_001])?;
        self.note("half close", "same");
        let right = pattern_hash(BULK);
        self.begin("tcp/bulk");
        let mut client = self.connect(TCP)?;
        let up = client.upload(BULK)?;
        self.note("up", up == right);
        let down = client.download(BULK)?;
        self.note("down", down == right);
        Ok(())
    }

    fn tcp_endings(&mut self) -> Result<()> {
        self.begin("tcp/end");
        self.connect(TCP)?.close_by_server()?;
        self.note("closed by the server", ());
        self.connect(TCP)?.reset(Reset::ByServer)?;
        self.note("reset by the server", ());
        let source = self.source();
        for round in 0..3 {
            let mut client =
                Client::connect_from(self.netns(), Some(source), self.vip(TCP), Duration::from_secs(3))
                    .with_context(|| format!("the same source port again after a reset, round {round}"))?;
            client.echo(b"again")?;
            client.reset(Reset::ByClient)?;
        }
        self.note("source port reused after resets", ());
        for _ in 0..3 {
            Client::connect_from(self.netns(), Some(source), self.vip(TCP), Duration::from_secs(3))
                .context("the same source port again after the server closed")?
                .close_by_server()?;
        }
        self.note("source port reused after the server closed", ());
        Ok(())
    }

    fn tcp_refusals(&mut self) -> Result<()> {
        for (case, port) in [("tcp/deaf backend", DEAF_TCP), ("tcp/unserved port", UNSERVED)] {
            self.begin(case);
            let refused = self.connect(port).map(drop).map_err(|error| error.kind());
            self.note("connect", refused);
        }
        Ok(())
    }

    /// A segment in the middle of a connection that nobody knows.
    fn tcp_unknown(&mut self) -> Result<()> {
        self.begin("tcp/unknown connection");
        let (source, to) = (self.source(), self.vip(TCP));
        let mut answers = SynListener::new(self.netns(), self.family)?;
        let segment = packet::tcp(source, to, packet::ACK, 1000, 2000);
        let packet = packet::whole(source.ip(), to.ip(), 6, &segment);
        PacketSender::new(self.netns(), self.family)?.send(&packet, to.ip())?;
        let answer = wait::until("an answer", LOST, || Ok(answers.drain()?.into_iter().next()));
        self.note(
            "answer",
            answer.map(|answer| (answer.from, answer.reset)).map_err(|error| error.to_string()),
        );
        Ok(())
    }

    fn udp(&mut self, port: u16) -> Result<UdpClient> {
        let source = self.source();
        UdpClient::connect(self.netns(), source, self.vip(port))
    }

    fn note_exchange(&mut self, outcome: &UdpOutcome, errors: &[IcmpSeen], data: &[u8]) {
        match outcome {
            UdpOutcome::Reply(received) => {
                let same = received.length == data.len();
                self.note("outcome", format!("reply, length {same}"));
                self.note("reply", received);
            }
            other => self.note("outcome", other),
        }
        self.note_errors(errors);
    }

    fn note_errors(&mut self, errors: &[IcmpSeen]) {
        self.note("errors", errors.iter().map(|e| (e.from, e.kind, e.code, e.info)).collect::<Vec<_>>());
        self.note("errors' TTL", errors.iter().map(|e| e.ttl).collect::<Vec<_>>());
        self.note("errors' checksums", errors.iter().all(|e| e.checksum));
        let inner: Vec<_> = errors.iter().filter_map(|e| e.inner.as_ref()).collect();
        self.note("inner", inner.iter().map(|i| (i.source, i.destination, i.protocol)).collect::<Vec<_>>());
        self.note("inner length", inner.iter().map(|i| i.length).collect::<Vec<_>>());
        self.note("inner TTL", inner.iter().map(|i| i.ttl).collect::<Vec<_>>());
        self.note("inner quoted", inner.iter().map(|i| i.quoted).collect::<Vec<_>>());
        self.note("inner header checksums", inner.iter().all(|i| i.header_checksum));
        self.note("inner checksums", !inner.iter().any(|i| i.checksum == Checksum::Wrong));
    }

    fn take_seen_by_backends(&self) -> Vec<Datagram> {
        let own = self.servers.udp.iter().filter(|(family, _)| *family == self.family);
        own.flat_map(|(_, server)| server.take()).collect()
    }

    fn note_seen_by_backends(&mut self) {
        let seen = self.take_seen_by_backends();
        self.note("at the backend", seen);
    }

    fn udp_headers(&mut self) -> Result<()> {
        self.note_seen_by_backends();
        for tos in [0, 0x28, 0x2, 0xb8] {
            self.begin(&format!("udp/tos {tos}"));
            let mut client = self.udp(UDP)?;
            client.set_tos(tos)?;
            let (outcome, errors) = client.exchange(b"type of service", LOST)?;
            self.note_exchange(&outcome, &errors, b"type of service");
            self.note_seen_by_backends();
        }
        self.begin("udp/empty");
        let (outcome, errors) = self.udp(UDP)?.exchange(b"", LOST)?;
        self.note_exchange(&outcome, &errors, b"");
        self.note_seen_by_backends();
        Ok(())
    }

    fn udp_refusals(&mut self) -> Result<()> {
        for (case, port) in [("udp/deaf backend", DEAF_UDP), ("udp/unserved port", UNSERVED)] {
            for size in [0, 1, 7, 8, 100, 501, 1301] {
                self.begin(&format!("{case}/{size}"));
                let data = vec![7; size];
                let (outcome, errors) = self.udp(port)?.exchange(&data, LOST)?;
                self.note_exchange(&outcome, &errors, &data);
            }
        }
        Ok(())
    }

    fn udp_sizes(&mut self) -> Result<()> {
        let [first, second] = &self.topology.backends;
        let mut listeners = [IcmpListener::new(first, self.family)?, IcmpListener::new(second, self.family)?];
        for dont_fragment in [false, true] {
            for (_, server) in self.servers.udp.iter().filter(|(family, _)| *family == self.family) {
                server.set_dont_fragment(dont_fragment)?;
            }
            for size in sizes(self.family) {
                let case = format!("udp/{}/{size}", if dont_fragment { "df" } else { "no df" });
                let mut client = self.udp(UDP)?;
                client.set_dont_fragment(dont_fragment)?;
                let data: Vec<u8> = (0..size).map(|index| (index % 253) as u8).collect();
                let outcome = self.sized_exchange(&case, &mut client, &data, &mut listeners)?;
                if matches!(outcome, UdpOutcome::Error | UdpOutcome::Nothing) {
                    // An end has now learned the path's MTU.
                    self.sized_exchange(&format!("{case} again"), &mut client, &data, &mut listeners)?;
                    let mtu = client.path_mtu();
                    self.note("path MTU", mtu.map_err(|error| error.kind()));
                    self.forget_path_mtus()?;
                }
            }
        }
        for (_, server) in self.servers.udp.iter().filter(|(family, _)| *family == self.family) {
            server.set_dont_fragment(false)?;
        }
        Ok(())
    }

    /// What a client learns from a datagram that does not fit into the cluster's network.
    fn path_mtu(&mut self) -> Result<()> {
        self.begin("path MTU");
        let mut client = self.udp(UDP)?;
        client.set_dont_fragment(true)?;
        let data = vec![1; 1450 - self.family.header()];
        let (outcome, errors) = client.exchange(&data, LOST)?;
        self.note_exchange(&outcome, &errors, &data);
        let mtu = client.path_mtu();
        self.note("path MTU", mtu.map_err(|error| error.kind()));
        self.forget_path_mtus()
    }

    fn sized_exchange(
        &mut self,
        case: &str,
        client: &mut UdpClient,
        data: &[u8],
        listeners: &mut [IcmpListener],
    ) -> Result<UdpOutcome> {
        self.begin(case);
        let (mut outcome, mut errors) = client.exchange(data, Duration::ZERO)?;
        let (mut seen, mut errors_at_backends) = (Vec::new(), Vec::new());
        let end = Instant::now() + LOST;
        while outcome == UdpOutcome::Nothing && Instant::now() < end {
            seen.extend(self.take_seen_by_backends());
            for listener in &mut *listeners {
                errors_at_backends.extend(listener.drain()?);
            }
            if !errors_at_backends.is_empty() || seen.iter().any(|datagram| !datagram.answered) {
                // The answer will not come.
                break;
            }
            (outcome, errors) = client.wait(Duration::from_millis(5))?;
        }
        self.note_exchange(&outcome, &errors, data);
        seen.extend(self.take_seen_by_backends());
        self.note("at the backend", seen);
        if !errors_at_backends.is_empty() {
            self.begin(&format!("{case} at the backend"));
            self.note_errors(&errors_at_backends);
        }
        Ok(outcome)
    }

    /// Each size up to 9000, as ranges of sizes with the same outcome.
    fn udp_every_size(&mut self) -> Result<()> {
        let data: Vec<u8> = (0..=LARGEST).map(|index| (index % 241) as u8).collect();
        for (case, probing) in [("udp/every size", false), ("udp/every size, df", true)] {
            let mut client = self.udp(UDP)?;
            if probing {
                client.set_probing()?;
            } else {
                client.set_dont_fragment(false)?;
                // IPv6 clients fragment only once they know the path's MTU.
                client.exchange(&data, LOST)?;
            }
            let mut ranges: Vec<(&'static str, usize, usize)> = Vec::new();
            for size in 1..=LARGEST {
                let (outcome, errors) = client.exchange(&data[..size], LOST)?;
                let name = match (outcome, &errors[..]) {
                    (UdpOutcome::Reply(reply), []) if reply.hash == *Sha256::digest(&data[..size]) => {
                        "echoed"
                    }
                    (UdpOutcome::Reply(_), _) => "changed",
                    (UdpOutcome::TooLarge, []) => "not sent",
                    (UdpOutcome::Error, [error]) if error.from == self.family.plan().vip => {
                        "ICMP error from the VIP"
                    }
                    (UdpOutcome::Nothing, _) => "lost",
                    _ => "something else",
                };
                match ranges.last_mut() {
                    Some((last, _, to)) if *last == name => *to = size,
                    _ => ranges.push((name, size, size)),
                }
            }
            self.begin(case);
            self.note("outcomes", ranges);
            let seen = self.take_seen_by_backends();
            self.note("datagrams at the backend", seen.len());
            self.forget_path_mtus()?;
        }
        Ok(())
    }

    fn fragments(&mut self) -> Result<()> {
        let plan = self.family.plan();
        let sender = PacketSender::new(self.netns(), self.family)?;
        for (round, (case, order)) in FRAGMENT_ORDERS.into_iter().enumerate() {
            self.begin(&format!("fragments/{case}"));
            let (source, to) = (self.source(), self.vip(UDP));
            let mut client = UdpClient::connect(self.netns(), source, to)?;
            let data: Vec<u8> = (0..FRAGMENTED).map(|index| (index % 249) as u8).collect();
            let transport = packet::udp(source, to, &data);
            let id = 0x5100 + round as u16;
            let parts = packet::fragments(source.ip(), to.ip(), 17, id, &transport, FRAGMENT_SIZE);
            for index in order {
                sender.send(&parts[*index], plan.vip)?;
            }
            let (outcome, errors) = client.wait(LOST)?;
            self.note_exchange(&outcome, &errors, &data);
            self.note_seen_by_backends();
        }
        Ok(())
    }

    fn traceroute(&mut self) -> Result<()> {
        for ttl in 1..=5 {
            self.begin(&format!("traceroute/udp/{ttl}"));
            let mut client = self.udp(UDP)?;
            client.set_ttl(ttl)?;
            let (outcome, errors) = client.exchange(b"where does it end?", LOST)?;
            self.note_exchange(&outcome, &errors, b"where does it end?");
            self.note_seen_by_backends();
            self.begin(&format!("traceroute/tcp/{ttl}"));
            let mut icmp = IcmpListener::new(self.netns(), self.family)?;
            let source = self.source();
            let connected = Client::connect_with_ttl(self.netns(), source, self.vip(TCP), ttl, LOST);
            self.note("connect", connected.map(drop).map_err(|error| error.kind()));
            let mut errors = icmp.drain()?;
            // A SYN is repeated after a second or not, depending on the machine's load.
            errors.truncate(1);
            self.note_errors(&errors);
        }
        Ok(())
    }
}

/// Bytes of the largest datagram.
const LARGEST: usize = 9000;
/// Payload of the fragmented datagrams: three fragments with their header.
const FRAGMENTED: usize = 3000;
const FRAGMENT_SIZE: usize = 1200;
const FRAGMENT_ORDERS: [(&str, &[usize]); 5] = [
    ("in order", &[0, 1, 2]),
    ("first, then backwards", &[0, 2, 1]),
    ("first repeated", &[0, 0, 1, 2]),
    ("a later one before the first", &[1, 0, 2]),
    ("backwards", &[2, 1, 0]),
];

/// Payload sizes around every edge: headers, both MTUs, each number of fragments, odd and even.
fn sizes(family: Family) -> Vec<usize> {
    let headers = family.header() + 8;
    let mut sizes = vec![1, 2, 3, 7, 8, 9, 63, 64, 511, 512, 1000, 1001];
    for mtu in [1300, 1400, 1500] {
        sizes.extend(mtu - headers - 2..=mtu - headers + 2);
        sizes.extend([mtu - 1, mtu, mtu + 1]);
    }
    // Where a later fragment begins to appear, at both MTUs.
    for mtu in [1300, 1400, 1500] {
        let per_fragment = (mtu - family.header()) / 8 * 8 - if family == Family::V6 { 8 } else { 0 };
        for count in 2..=6 {
            let full = per_fragment * count - 8;
            sizes.extend([full - 1, full, full + 1, full + 8]);
        }
    }
    sizes.extend([8191, 8192, 8972, 8999, 9000]);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}
