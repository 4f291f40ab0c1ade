//! Servers, each with a thread of its own until it is dropped.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};
use socket2::SockRef;

use super::socket;
use super::stream::{self, Pattern};
use super::udp::{self, Received};
use crate::addresses::Family;
use crate::netns::Netns;

/// Serves the protocol of [`super::stream`] to any number of clients.
#[derive(Debug)]
pub struct TcpServer {
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens at `port` of every address of the namespace; `number` is how the server names itself.
    pub fn start(netns: &Netns, port: u16, number: usize) -> Result<Self> {
        let listener = netns
            .run(|| Ok(TcpListener::bind(SocketAddr::from(([0_u16; 8], port)))?))
            .with_context(|| format!("listening at port {port} of {}", netns.name()))?;
        // Long enough for a burst of hundreds of clients.
        listen(&listener, Backlog::new(4096)?)?;
        let (listener, stopped) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (listener, stopped) = (listener.clone(), stopped.clone());
            move || {
                while let Ok((stream, peer)) = listener.accept() {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    // A connection that breaks is the client's to report.
                    std::thread::spawn(move || serve(stream, peer, number));
                }
            }
        });
        Ok(Self { listener, stopped, thread: Some(thread) })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits in accept.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An IPv4 peer of an IPv6 socket, as itself.
fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

fn serve(mut stream: TcpStream, peer: SocketAddr, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some((command, count)) = stream::read_opening(&mut stream)? {
        match command {
            stream::ECHO => echo(&mut stream, count)?,
            stream::UPLOAD => {
                let hash = stream::receive(&mut stream, count)?;
                stream.write_all(&hash)?;
            }
            stream::DOWNLOAD => Pattern::new(count).send(&mut stream)?,
            stream::WHO => stream.write_all(format!("{number} {}\n", plain(peer)).as_bytes())?,
            stream::RESET => {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn echo(stream: &mut TcpStream, count: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = stream.read(&mut buffer[..want])?;
        if got == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..got])?;
        left -= got as u64;
    }
    Ok(())
}

/// A datagram as a server saw it.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Where it came from.
    pub peer: SocketAddr,
    /// What it was.
    pub received: Received,
    /// Whether it was sent back; not so where it exceeds the path MTU and may not be fragmented.
    pub answered: bool,
}

/// Sends every datagram back to where it came from, and remembers what it saw.
#[derive(Debug)]
pub struct UdpServer {
    family: Family,
    socket: Arc<UdpSocket>,
    stopped: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Datagram>>>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Serves `port` of `address`, of the namespace.
    pub fn start(netns: &Netns, address: IpAddr, port: u16) -> Result<Self> {
        let socket = netns
            .run(|| Ok(UdpSocket::bind(SocketAddr::new(address, port))?))
            .with_context(|| format!("serving UDP port {port} of {}", netns.name()))?;
        let family = Family::of(address);
        SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
        socket::receive_headers(&socket, family)?;
        socket::set_dont_fragment(&socket, family, false)?;
        let socket = Arc::new(socket);
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let thread = std::thread::spawn({
            let (socket, stopped, seen) = (socket.clone(), stopped.clone(), seen.clone());
            move || {
                let mut buffer = vec![0; 65_536];
                while !stopped.load(Ordering::Relaxed) {
                    // Errors here are ICMP errors about earlier replies.
                    let Ok((received, peer)) = udp::receive(&socket, &mut buffer) else { continue };
                    let Some(peer) = peer else { continue };
                    let length = received.length;
                    // Held while answering, so that whoever has the answer finds the datagram noted.
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let answered = socket.send_to(&buffer[..length], peer).is_ok();
                    seen.push(Datagram { peer, received, answered });
                }
            }
        });
        Ok(Self { family, socket, stopped, seen, thread: Some(thread) })
    }

    /// Whether its replies may be fragmented.
    pub fn set_dont_fragment(&self, dont: bool) -> io::Result<()> {
        socket::set_dont_fragment(&self.socket, self.family, dont)
    }

    /// What it saw since the last call.
    pub fn take(&self) -> Vec<Datagram> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a datagram.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
