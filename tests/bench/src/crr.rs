//! New connections: TCP connect, request, response between real sockets, and the first packets of flows without any.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::time::TimeVal;
use sluice_bench::contender::{Contender, UDP_TIMEOUT};
use sluice_bench::cpu::Softirqs;
use sluice_bench::report::Section;
use sluice_bench::rig::{Peer, Rig};
use sluice_bench::rounds::{Rounds, interleaved};
use sluice_bench::tcp::Path;
use sluice_bench::traffic::{Workload, service};
use sluice_figures::{Goal, Phase};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::Spec;
use sluice_tests::netns::Netns;
use sluice_tests::topology::External;

use crate::Effort;

const SECTION: Section = Section("new TCP connections, net1 a macvlan");
const CONTENDERS: [Contender; 5] = [
    Contender::SluiceTc,
    Contender::IptablesLegacy,
    Contender::IptablesNft,
    Contender::Nftables,
    // What a gateway without NAT would come to.
    Contender::Routing,
];
/// Ports that clients take turns with: one target's port has room for 64 512 connections, those in TIME_WAIT included.
const PORTS: u16 = 16;
/// Clients, and as many servers: enough to keep the cores busy.
const AT_ONCE: usize = 4;
/// How long connections are made in one turn.
const TURN: Duration = Duration::from_secs(1);
/// For one connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures all of it.
///
/// # Errors
/// If a connection fails.
pub fn run(effort: Effort) -> Result<()> {
    first_packets(effort)?;
    let mut phase = Phase::begin("new TCP connections", effort.rounds * CONTENDERS.len());
    let mut lines = CONTENDERS.map(Line::new).into_iter().collect::<Result<Vec<_>>>()?;
    let mut cost = vec![Rounds::default(); lines.len()];
    let mut done = 0;
    let rates = interleaved(&mut lines, effort.rounds, |line| {
        let index = CONTENDERS.iter().position(|contender| *contender == line.path.contender());
        let (connections, cpu, time) = line.connect(TURN)?;
        cost[index.unwrap_or_default()].0.push(cpu.as_secs_f64() * 1e6 / connections);
        done += 1;
        phase.done(done);
        Ok(connections / time.as_secs_f64())
    })?;
    for ((line, rates), cost) in lines.iter().zip(&rates).zip(&cost) {
        let case = line.path.contender().name();
        SECTION.rounds("connections", case, &rates.times(1e-3), "k/s", None);
        SECTION.rounds("CPU, client and server included", case, cost, "us each", None);
    }
    SECTION.ratio("sluice tc beside iptables-legacy", &rates[0].beside(&rates[1]), Goal::at_least(1.5));
    Ok(())
}

/// What a gateway itself does for a new flow: UDP, each packet the first of its flow.
fn first_packets(effort: Effort) -> Result<()> {
    const SECTION: Section = Section("new UDP flows, net1 a macvlan");
    /// Of one turn. The kernel's connection table has room for five times as many rounds as are usual.
    const FLOWS: u32 = 10_000;
    const WITH_NAT: usize = CONTENDERS.len() - 1;
    let mut phase = Phase::begin("new UDP flows", 1);
    let flows = FLOWS * u32::try_from(effort.rounds).context("the number of rounds")?;
    let workload = Workload { flows, ports: PORTS, ..Workload::USUAL };
    let spec = Spec { timeouts: vec![("udpUnreplied", UDP_TIMEOUT)], ..service(PORTS) };
    let prepare = |contender: &Contender| {
        let mut rig = Rig::new(*contender, External::Macvlan, Peer::Plain, &spec)?;
        rig.announce(workload)?;
        Ok(rig)
    };
    let mut rigs = CONTENDERS[..WITH_NAT].iter().map(prepare).collect::<Result<Vec<Rig>>>()?;
    let found = interleaved(&mut rigs, effort.rounds, |rig| Ok(rig.send(FLOWS)?.rate()))?;
    for (rig, rates) in rigs.iter().zip(&found) {
        SECTION.rounds("flows", rig.contender().name(), &rates.times(1e-3), "k/s", None);
    }
    let ratio = found[0].beside(&found[1]);
    SECTION.rounds("sluice tc beside iptables-legacy", "ratio", &ratio, "x", None);
    phase.done(1);
    Ok(())
}

/// A path with servers at its end.
struct Line {
    path: Path,
    _servers: Servers,
}

impl Line {
    fn new(contender: Contender) -> Result<Self> {
        let path = Path::new(contender, PORTS)?;
        // A client's port is free again a second after its connection has ended.
        path.client()
            .sysctl(&[("net/ipv4/ip_local_port_range", "1024 65535"), ("net/ipv4/tcp_tw_reuse", "1")])?;
        let servers = Servers::start(path.server())?;
        Ok(Self { path, _servers: servers })
    }

    /// Makes connections for `time`: how many, the cores' time, and the time that it took.
    fn connect(&self, time: Duration) -> Result<(f64, Duration, Duration)> {
        let softirqs = Softirqs::of_all()?;
        let count = AtomicU64::new(0);
        let failure = Mutex::new(None);
        let (started, before) = (Instant::now(), softirqs.now()? + used()?);
        thread::scope(|scope| {
            for client in 0..AT_ONCE {
                let (count, failure, path) = (&count, &failure, &self.path);
                scope.spawn(move || {
                    if let Err(error) = connect_until(path, client, started + time, count) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.context(format!("connecting through {}", self.path.contender().name())));
        }
        let elapsed = started.elapsed();
        let cpu = (softirqs.now()? + used()?).saturating_sub(before);
        Ok((count.into_inner() as f64, cpu, elapsed))
    }
}

/// Exchanges one byte in a connection of its own, again and again.
fn connect_until(path: &Path, client: usize, end: Instant, count: &AtomicU64) -> Result<()> {
    let _inside = path.client().enter()?;
    for turn in client.. {
        if Instant::now() >= end {
            break;
        }
        let port = Path::FIRST_PORT + (turn % usize::from(PORTS)) as u16;
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(path.address(), port), PATIENCE)
            .context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a time limit")?;
        stream.write_all(b"?").context("requesting")?;
        let mut answer = [0];
        stream.read_exact(&mut answer).context("waiting for the response")?;
        ensure!(answer == *b"!", "a strange response");
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// CPU time of this process, clients and servers.
fn used() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("asking for the CPU time")?;
    let time = |value: TimeVal| Duration::new(value.tv_sec() as u64, value.tv_usec() as u32 * 1000);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Servers that answer one byte with another, one at each port.
struct Servers {
    listeners: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(netns: &Netns) -> Result<Self> {
        let mut servers = Self { listeners: Vec::new(), threads: Vec::new() };
        for port in Path::FIRST_PORT..Path::FIRST_PORT + PORTS {
            let address = SocketAddr::new(Family::V4.plan().cluster_ip, port);
            let listener = netns.run(|| TcpListener::bind(address).context("listening"))?;
            let listener = Arc::new(listener);
            servers.listeners.push(listener.clone());
            servers.threads.push(thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    // A connection that breaks is the client's to report.
                    let _ = answer(stream);
                }
            }));
        }
        Ok(servers)
    }
}

/// Answers, and waits until the client closes: it is the client that keeps the connection's TIME_WAIT.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(b"!")?;
    stream.read(&mut byte).map(drop)
}

impl Drop for Servers {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Wakes the thread that waits in accept.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
