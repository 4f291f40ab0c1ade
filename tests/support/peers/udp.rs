//! UDP clients, and datagrams with what their headers said.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use std::{fmt, io};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::{Digest, Sha256};

use super::icmp::{IcmpListener, IcmpSeen};
use super::socket::{self, Message};
use super::stream::Hash;
use crate::addresses::Family;
use crate::netns::Netns;

/// A datagram that arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes of payload.
    pub length: usize,
    /// Of the payload.
    pub hash: Hash,
    /// TTL or hop limit.
    pub ttl: Option<i32>,
    /// TOS or traffic class.
    pub tos: Option<i32>,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.hash;
        let hash = u32::from_be_bytes([a, b, c, d]);
        write!(f, "{} bytes, hash {hash:08x}, TTL {:?}, TOS {:?}", self.length, self.ttl, self.tos)
    }
}

/// Receives one datagram into `buffer`.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(Received, Option<SocketAddr>)> {
    let Message { length, ttl, tos, peer } = socket::receive(socket, buffer)?;
    let hash = Sha256::digest(&buffer[..length]).into();
    Ok((Received { length, hash, ttl, tos }, peer))
}

/// What came of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpOutcome {
    /// This came back.
    Reply(Received),
    /// The socket refused to send: larger than the path MTU that it knows.
    TooLarge,
    /// An ICMP error came, and no reply.
    Error,
    /// Nothing came.
    Nothing,
}

/// A client's socket, connected to one service.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    family: Family,
    icmp: IcmpListener,
}

impl UdpClient {
    /// A socket at `from` that talks to `to`.
    pub fn connect(netns: &Netns, from: SocketAddr, to: SocketAddr) -> Result<Self> {
        let family = Family::of(to.ip());
        let socket =
            netns.run(|| Ok(UdpSocket::bind(from)?)).with_context(|| format!("binding UDP to {from}"))?;
        socket.connect(to).with_context(|| format!("connecting UDP to {to}"))?;
        socket::receive_headers(&socket, family)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, family, icmp: IcmpListener::new(netns, family)? })
    }

    /// A socket at any port of the client's address for this family.
    pub fn connect_any(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = match Family::of(to.ip()) {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::connect(netns, SocketAddr::new(any, 0), to)
    }

    /// The socket.
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Whether datagrams may be fragmented.
    pub fn set_dont_fragment(&self, dont: bool) -> io::Result<()> {
        socket::set_dont_fragment(&self.socket, self.family, dont)
    }

    /// Sends with DF set (IPv6: unfragmented) whatever path MTU is known, up to the device's.
    pub fn set_probing(&self) -> io::Result<()> {
        socket::set_probing(&self.socket, self.family)
    }

    /// Sets TTL or hop limit.
    pub fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        socket::set_ttl(&self.socket, self.family, ttl)
    }

    /// Sets TOS or traffic class.
    pub fn set_tos(&self, tos: u8) -> io::Result<()> {
        socket::set_tos(&self.socket, self.family, tos)
    }

    /// The path MTU that the socket knows.
    pub fn path_mtu(&self) -> io::Result<i32> {
        socket::path_mtu(&self.socket, self.family)
    }

    /// Sends `data` and waits for a reply or an ICMP error, at most for `deadline`.
    ///
    /// # Errors
    /// Only when the sockets themselves fail: what the network does is an outcome.
    pub fn exchange(&mut self, data: &[u8], deadline: Duration) -> Result<(UdpOutcome, Vec<IcmpSeen>)> {
        self.icmp.drain()?;
        match self.socket.send(data) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Ok((UdpOutcome::TooLarge, Vec::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Left over from an earlier datagram; this one was not sent.
                self.socket.send(data).context("sending a datagram")?;
            }
            other => drop(other.context("sending a datagram")?),
        }
        self.wait(deadline)
    }

    /// Waits for a reply or an ICMP error to something sent by other means.
    ///
    /// # Errors
    /// As [`UdpClient::exchange`].
    pub fn wait(&mut self, deadline: Duration) -> Result<(UdpOutcome, Vec<IcmpSeen>)> {
        let mut buffer = vec![0; 65_536];
        let end = Instant::now() + deadline;
        let mut errors = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), self.icmp.poll_fd()];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(&mut ready, timeout).context("waiting for a reply")? == 0 {
                return Ok((UdpOutcome::Nothing, errors));
            }
            let socket_ready = ready[0].any().unwrap_or(false);
            errors.extend(self.icmp.drain()?);
            if socket_ready {
                return Ok(match receive(&self.socket, &mut buffer) {
                    Ok((received, _)) => (UdpOutcome::Reply(received), errors),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => (UdpOutcome::Error, errors),
                });
            }
            if !errors.is_empty() {
                return Ok((UdpOutcome::Error, errors));
            }
        }
    }
}
