//! A load that goes on while something fails: requests with a connection for each, connections that stay, and datagrams. Every loss is counted.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use sluice_cluster::netns::Netns;

use crate::case::{CAUGHT_UP, PATIENCE, within};

/// The Service's port for HTTP, and that for datagrams.
pub const WEB: u16 = 80;
pub const ECHO: u16 = 53;
/// Between the beginnings of two requests; they do not wait for each other.
const REQUESTS: Duration = Duration::from_millis(50);
/// Between two requests on a connection that stays.
const TURNS: Duration = Duration::from_millis(100);
const DATAGRAMS: Duration = Duration::from_millis(20);
/// How many connections stay.
const CONNECTIONS: usize = 8;
/// A request without an answer for this long is lost.
const REQUEST_LOST: Duration = Duration::from_secs(5);
/// A connection is broken if a request on it has no answer for this long: longer than a minute's outage needs until TCP sends again.
const CONNECTION_BROKEN: Duration = Duration::from_secs(15);
/// A datagram is lost if it is not back this long after the last was sent.
const DATAGRAM_LOST: Duration = Duration::from_secs(2);
/// How much has to be answered for the load to be under way.
const UNDER_WAY: usize = 20;

/// The load.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Outcome>,
    /// The same that goes round the gateway.
    control: Option<Box<Self>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Connections that stay and have been answered.
    connected: AtomicUsize,
    /// When requests were answered.
    answers: Mutex<Vec<Instant>>,
}

/// How many there were, and of how many nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    pub all: usize,
    pub lost: usize,
}

/// What became of the load.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub requests: Losses,
    pub connections: Losses,
    pub datagrams: Losses,
    /// The longest time in which no request was answered.
    pub gap: Duration,
    /// The control has lost some as well: the machine was too busy to tell.
    pub control_lost: bool,
}

impl Load {
    /// Loads a Service's address with its ports [`WEB`] and [`ECHO`], and returns when all of it is answered. Begins with the first answer: an address is
    /// published when its gateway is ready, which the kube-proxy of the gateway's node need not be. Until it knows the Service, connections are refused, and
    /// one that stays is begun once.
    pub fn start(client: Netns, address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let answers =
            || connect(SocketAddr::new(address, WEB), REQUEST_LOST).and_then(|mut stream| ask(&mut stream));
        within(CAUGHT_UP, "a first request is answered", || client.run(answers).unwrap().ok());
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let thread = thread::spawn(move || client.run(|| inside.run(address)).unwrap());
        let load = Self { shared, thread, control: None };
        within(PATIENCE, "the load is answered", || {
            let connected = load.shared.connected.load(Ordering::Relaxed);
            (connected == CONNECTIONS && load.answered() >= UNDER_WAY).then_some(())
        });
        load
    }

    /// With the same load that goes round the gateway: what is lost there as well is not lost by the gateway.
    pub fn with_control(self, control: Self) -> Self {
        Self { control: Some(Box::new(control)), ..self }
    }

    /// Waits until requests are answered again.
    pub fn wait_until_served(&self, deadline: Duration) {
        let before = self.answered();
        within(deadline, "requests are answered", || (self.answered() >= before + UNDER_WAY).then_some(()));
    }

    /// When the first request was answered after a moment, if one was.
    pub fn answered_after(&self, since: Instant) -> Option<Instant> {
        self.shared.answers.lock().unwrap().iter().find(|answer| **answer > since).copied()
    }

    /// Ends it.
    pub fn stop(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.join().unwrap();
        let control_lost = self.control.is_some_and(|control| control.stop().is_any_lost());
        Outcome { control_lost, ..outcome }
    }

    fn answered(&self) -> usize {
        self.shared.answers.lock().unwrap().len()
    }
}

impl Shared {
    fn run(&self, address: IpAddr) -> Outcome {
        let started = Instant::now();
        let (web, echo) = (SocketAddr::new(address, WEB), SocketAddr::new(address, ECHO));
        let (requests, connections, datagrams, ended) = thread::scope(|scope| {
            let held: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| self.hold_connection(web))).collect();
            let datagrams = scope.spawn(|| self.exchange_datagrams(echo));
            let requests = self.request(scope, web);
            let ended = Instant::now();
            let requests = count(requests.into_iter().map(|thread| thread.join().unwrap()));
            let held = count(held.into_iter().map(|thread| thread.join().unwrap()));
            (requests, held, datagrams.join().unwrap(), ended)
        });
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        Outcome {
            requests,
            connections,
            datagrams,
            gap: longest_gap(started, answers, ended),
            control_lost: false,
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Begins requests at an even pace, whatever becomes of them, until the end.
    fn request<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        web: SocketAddr,
    ) -> Vec<ScopedJoinHandle<'scope, io::Result<()>>> {
        let mut requests = Vec::new();
        while self.goes_on() {
            requests.push(scope.spawn(move || {
                let answered = connect(web, REQUEST_LOST).and_then(|mut stream| ask(&mut stream));
                if answered.is_ok() {
                    self.answers.lock().unwrap().push(Instant::now());
                }
                answered
            }));
            thread::sleep(REQUESTS);
        }
        requests
    }

    /// Asks on one connection until the end.
    fn hold_connection(&self, web: SocketAddr) -> io::Result<()> {
        let mut stream = connect(web, CONNECTION_BROKEN)?;
        ask(&mut stream)?;
        self.connected.fetch_add(1, Ordering::Relaxed);
        while self.goes_on() {
            thread::sleep(TURNS);
            ask(&mut stream)?;
        }
        Ok(())
    }

    /// Sends numbered datagrams from one socket, and counts those that come back.
    fn exchange_datagrams(&self, echo: SocketAddr) -> Losses {
        let unspecified: IpAddr = if echo.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((unspecified, 0)).unwrap();
        socket.connect(echo).unwrap();
        socket.set_read_timeout(Some(DATAGRAMS)).unwrap();
        let (mut all, mut back) = (0, 0);
        let mut collect = |until: Instant| {
            while Instant::now() < until {
                // An error tells of an ICMP error, or of nothing to read.
                back += usize::from(socket.recv(&mut [0; 64]).is_ok());
            }
            back
        };
        while self.goes_on() {
            // What is refused here is not sent, and so does not come back.
            let _refused = socket.send(format!("echo {all}").as_bytes());
            all += 1;
            collect(Instant::now() + DATAGRAMS);
        }
        let back = collect(Instant::now() + DATAGRAM_LOST);
        Losses { all, lost: all.saturating_sub(back) }
    }
}

impl Outcome {
    /// Whether the gateway lost any of it.
    pub const fn is_lost_by_gateway(&self) -> bool {
        self.is_any_lost() && !self.control_lost
    }

    const fn is_any_lost(&self) -> bool {
        self.requests.lost + self.connections.lost + self.datagrams.lost > 0
    }
}

/// As cells of the table in `docs/reliability.md`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, connections, datagrams, gap, control_lost } = self;
        let note = if *control_lost { " (as without gateway: busy machine)" } else { "" };
        write!(f, "{requests} | {connections} | {datagrams} | {} ms{note}", gap.as_millis())
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.lost, self.all)
    }
}

fn count(results: impl Iterator<Item = io::Result<()>>) -> Losses {
    results.fold(Losses { all: 0, lost: 0 }, |Losses { all, lost }, result| Losses {
        all: all + 1,
        lost: lost + usize::from(result.is_err()),
    })
}

/// The longest time without an answer, from the first to the last moment.
fn longest_gap(first: Instant, mut answers: Vec<Instant>, last: Instant) -> Duration {
    answers.retain(|answer| *answer < last);
    answers.extend([first, last]);
    answers.sort();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn connect(server: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its whole answer; the connection can be used again.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"GET /hostname HTTP/1.1\r\nHost: backend\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !is_whole(&answer) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(())
}

/// Whether a HTTP answer has as many bytes after its head as that says.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.is_some_and(|length| length.trim().parse() == Ok(body.len()))
}
