//! The traffic that runs once through Sluice and once through netfilter, and what is observed of it.

mod tcp;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::addresses::Family;
use crate::gateway::{Port, Spec};
use crate::kube_proxy::{ClusterIp, Forward, Protocol};
use crate::packet::Checksum;
use crate::peers::{Client, Datagram, IcmpSeen, TcpServer, UdpOutcome, UdpServer, echo_request};
use crate::record::Record;
use crate::topology::{Builder, Place, Topology};

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
        // A router outside quotes a sender's unfinished checksum, or the finished one, as its own kernel has it.
        let vip = self.family.plan().vip;
        let quoted = errors.iter().filter(|e| e.from == vip).filter_map(|e| e.inner.as_ref());
        self.note("inner checksums", !quoted.into_iter().any(|i| i.checksum == Checksum::Wrong));
    }

    fn take_seen_by_backends(&self) -> Vec<Datagram> {
        let own = self.servers.udp.iter().filter(|(family, _)| *family == self.family);
        own.flat_map(|(_, server)| server.take()).collect()
    }
}
