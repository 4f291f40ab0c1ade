//! Real TCP and UDP between a client and an echo server. Both sides compare every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use sluice_tests::netns::Netns;

/// How long one exchange may take, under emulation.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt waits for its answer.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Bytes sent over TCP in each direction: many segments, and several windows.
const TCP_BYTES: usize = 256 * 1024;
/// Sizes of UDP payloads: none, odd, and close to the smaller MTU.
const UDP_BYTES: [usize; 3] = [0, 33, 1300];

/// Echo servers for both protocols on one address. The sources of connections and datagrams can be read from it.
pub struct Server {
    sources: Receiver<IpAddr>,
}

impl Server {
    /// Starts the servers inside `netns`; they run until the process ends.
    pub fn start(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let (sender, sources) = channel();
        let (tcp, udp) = netns.run(|| {
            let tcp = TcpListener::bind(address).with_context(|| format!("listening on {address}, TCP"))?;
            let udp = UdpSocket::bind(address).with_context(|| format!("listening on {address}, UDP"))?;
            Ok((tcp, udp))
        })?;
        let tcp_sender = sender.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let sender = tcp_sender.clone();
                thread::spawn(move || {
                    // A client that has gone away shows on its own side; so does a reader of `sources` that has.
                    let _ = stream.peer_addr().map(|peer| sender.send(peer.ip()));
                    let _ = echo(stream);
                });
            }
        });
        thread::spawn(move || {
            let mut datagram = [0; 65536];
            while let Ok((size, peer)) = udp.recv_from(&mut datagram) {
                let _ = sender.send(peer.ip());
                let _ = udp.send_to(datagram.get(..size).unwrap_or_default(), peer);
            }
        });
        Ok(Self { sources })
    }

    /// Asserts that something came since the last call, and all of it from `source`.
    pub fn saw_only(&self, source: IpAddr) -> Result<()> {
        let seen: Vec<_> = self.sources.try_iter().collect();
        ensure!(!seen.is_empty(), "the backend saw nothing");
        for address in seen {
            ensure!(address == source, "the backend saw {address} instead of {source}");
        }
        Ok(())
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 16384];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

/// Connects, sends, half-closes and reads everything back.
pub fn tcp(netns: &Netns, server: SocketAddr) -> Result<()> {
    netns.run(|| {
        let stream = TcpStream::connect_timeout(&server, DEADLINE)
            .with_context(|| format!("connecting to {server}"))?;
        transfer(stream).with_context(|| format!("talking to {server}"))
    })
}

/// Sends and reads back over a connection that is already there.
fn transfer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let sent = pattern(TCP_BYTES);
    let mut received = Vec::with_capacity(sent.len());
    thread::scope(|scope| -> Result<()> {
        let mut writing = stream.try_clone()?;
        let sent = &sent;
        let writer = scope.spawn(move || {
            writing.write_all(sent)?;
            writing.shutdown(Shutdown::Write)
        });
        stream.read_to_end(&mut received).context("reading the echo")?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?.context("writing")
    })?;
    ensure!(received == sent, "{} bytes came back, and not as sent", received.len());
    Ok(())
}

/// Sends a datagram of each size and reads it back.
pub fn udp(netns: &Netns, server: SocketAddr) -> Result<()> {
    netns.run(|| {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).context("opening a UDP socket")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(ATTEMPT))?;
        UDP_BYTES.iter().try_for_each(|size| {
            datagram(&socket, &pattern(*size)).with_context(|| format!("{size} bytes to {server}"))
        })
    })
}

/// Sends one datagram until it comes back: UDP may lose the first ones, while neighbours are resolved.
fn datagram(socket: &UdpSocket, payload: &[u8]) -> Result<()> {
    let start = Instant::now();
    let mut buffer = [0; 65536];
    while start.elapsed() < DEADLINE {
        socket.send(payload)?;
        match socket.recv(&mut buffer) {
            Ok(size) if buffer.get(..size) == Some(payload) => return Ok(()),
            // A repeated answer to an earlier size.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("reading the echo"),
        }
    }
    bail!("no echo within {DEADLINE:?}")
}

/// Bytes without a short period, so that a displaced or repeated piece is seen.
fn pattern(size: usize) -> Vec<u8> {
    (0..size as u32).map(|position| (position.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
