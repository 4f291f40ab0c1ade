//! What ICMP errors a host receives, and echo requests.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::socket;
use crate::addresses::Family;
use crate::netns::Netns;
use crate::packet::{Inner, icmp_v6_is_right, internet_checksum};
use crate::wait;

/// An ICMP error that a host received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpSeen {
    /// Who sent it.
    pub from: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: Option<i32>,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word: the MTU of "fragmentation needed" and "packet too big".
    pub info: u32,
    /// Whether its checksum was right.
    pub checksum: bool,
    /// The packet that it is about.
    pub inner: Option<Inner>,
}

/// A raw socket that receives the ICMP errors of a namespace.
#[derive(Debug)]
pub struct IcmpListener {
    socket: Socket,
    family: Family,
}

impl IcmpListener {
    /// Receives from now on.
    pub fn new(netns: &Netns, family: Family) -> Result<Self> {
        let socket = raw(netns, family).with_context(|| format!("listening to ICMP in {}", netns.name()))?;
        Ok(Self { socket, family })
    }

    /// Everything received since the last call.
    pub fn drain(&mut self) -> Result<Vec<IcmpSeen>> {
        let mut buffer = vec![0; 65_536];
        let mut seen = Vec::new();
        loop {
            match socket::receive(&self.socket, &mut buffer) {
                Ok(message) => {
                    let Some(peer) = message.peer else { continue };
                    let body = body(self.family, &buffer[..message.length]);
                    seen.extend(parse(self.family, peer.ip(), message.ttl, body));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(seen),
                Err(error) => return Err(error).context("receiving ICMP"),
            }
        }
    }

    /// Waits for at least one error.
    pub fn wait(&mut self, what: &str) -> Result<Vec<IcmpSeen>> {
        wait::until(what, wait::PATIENCE, || {
            let seen = self.drain()?;
            Ok((!seen.is_empty()).then_some(seen))
        })
    }

    /// To wait for it together with other sockets.
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)
    }
}

fn raw(netns: &Netns, family: Family) -> Result<Socket> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = netns.run(|| Ok(Socket::new(domain, Type::RAW.cloexec().nonblocking(), Some(protocol))?))?;
    socket.set_recv_buffer_size(1 << 20)?;
    socket::receive_headers(&socket, family)?;
    Ok(socket)
}

/// Raw IPv4 sockets deliver the IP header, IPv6 ones do not.
fn body(family: Family, packet: &[u8]) -> &[u8] {
    match (family, packet.first()) {
        (Family::V4, Some(first)) => packet.get(usize::from(first & 0xf) * 4..).unwrap_or_default(),
        _ => packet,
    }
}

fn parse(family: Family, from: IpAddr, ttl: Option<i32>, body: &[u8]) -> Option<IcmpSeen> {
    let (&[kind, code, _, _, a, b, c, d], quoted) = body.split_first_chunk::<8>()?;
    let is_error = match family {
        Family::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        Family::V6 => kind < 128,
    };
    if !is_error {
        return None;
    }
    let inner = Inner::parse(quoted);
    Some(IcmpSeen {
        from,
        ttl,
        kind,
        code,
        info: u32::from_be_bytes([a, b, c, d]),
        checksum: match (family, &inner) {
            (Family::V4, _) => internet_checksum(&[body]) == 0,
            // It is about a packet of the host that received it.
            (Family::V6, Some(inner)) => icmp_v6_is_right(from, inner.source.ip(), body),
            (Family::V6, None) => false,
        },
        inner,
    })
}

/// Sends an echo request with `size` bytes of data and returns what came back: who answered, and with which TTL.
///
/// # Errors
/// When nothing comes back within `deadline`, or other data.
pub fn echo_request(
    netns: &Netns,
    to: IpAddr,
    size: usize,
    deadline: Duration,
) -> Result<(IpAddr, Option<i32>)> {
    let family = Family::of(to);
    let socket = raw(netns, family)?;
    let (request, reply) = match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    };
    let mut message = vec![request, 0, 0, 0, 0x51, 0x1c, 0, 1];
    message.extend((0..size).map(|index| (index % 251) as u8));
    if family == Family::V4 {
        // The kernel fills in ICMPv6's.
        let sum = internet_checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    socket.send_to(&message, &SocketAddr::new(to, 0).into()).with_context(|| format!("pinging {to}"))?;
    let mut buffer = vec![0; 65_536];
    wait::until(&format!("an echo reply of {size} bytes from {to}"), deadline, || {
        loop {
            let got = match socket::receive(&socket, &mut buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("receiving an echo reply"),
            };
            let body = body(family, &buffer[..got.length]);
            let (Some(peer), Some((&kind, _))) = (got.peer, body.split_first()) else { continue };
            if kind == reply && body.get(4..8) == message.get(4..8) {
                ensure!(body.get(8..) == message.get(8..), "the echo reply's data differ");
                return Ok(Some((peer.ip(), got.ttl)));
            }
        }
    })
}
