//! Raw sockets: TCP handshakes as a host sees them arrive, and packets that no ordinary socket sends.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::socket;
use crate::addresses::Family;
use crate::netns::Netns;
use crate::packet::{self, ACK, RST, SYN};
use crate::wait;

/// A SYN, a SYN-ACK or a RST that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynSeen {
    /// Who sent it.
    pub from: SocketAddr,
    /// To which port.
    pub to_port: u16,
    /// Its sequence number.
    pub sequence: u32,
    /// Whether it is a SYN-ACK.
    pub ack: bool,
    /// Whether it is a RST.
    pub reset: bool,
    /// TTL or hop limit on arrival.
    pub ttl: Option<i32>,
    /// TOS or traffic class.
    pub tos: Option<i32>,
    /// MSS option.
    pub mss: Option<u16>,
    /// Kinds of the TCP options.
    pub options: Vec<u8>,
}

/// A raw socket that receives the TCP segments of a namespace. Short-lived: everything else is received too.
#[derive(Debug)]
pub struct SynListener {
    socket: Socket,
    family: Family,
}

impl SynListener {
    /// Receives from now on.
    pub fn new(netns: &Netns, family: Family) -> Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = netns
            .run(|| Ok(Socket::new(domain, Type::RAW.cloexec().nonblocking(), Some(Protocol::TCP))?))
            .with_context(|| format!("listening to TCP in {}", netns.name()))?;
        socket::receive_headers(&socket, family)?;
        socket.set_recv_buffer_size(4 << 20).context("making room for segments")?;
        Ok(Self { socket, family })
    }

    /// What has arrived since the last call.
    pub fn drain(&mut self) -> Result<Vec<SynSeen>> {
        let mut buffer = vec![0; 65_536];
        let mut seen = Vec::new();
        loop {
            let got = match socket::receive(&self.socket, &mut buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(seen),
                Err(error) => return Err(error).context("receiving TCP"),
            };
            let packet = &buffer[..got.length];
            let header = if self.family == Family::V4 { usize::from(packet[0] & 0xf) * 4 } else { 0 };
            let tcp = &packet[header..];
            if let (Some(peer), Some(&flags)) = (got.peer, tcp.get(13))
                && flags & (SYN | RST) != 0
            {
                seen.push(SynSeen {
                    from: SocketAddr::new(peer.ip(), u16::from_be_bytes([tcp[0], tcp[1]])),
                    to_port: u16::from_be_bytes([tcp[2], tcp[3]]),
                    sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
                    ack: flags & ACK != 0,
                    reset: flags & RST != 0,
                    ttl: got.ttl,
                    tos: got.tos,
                    mss: packet::mss(tcp),
                    options: packet::option_kinds(tcp),
                });
            }
        }
    }

    /// Waits for the first.
    pub fn wait(&mut self, what: &str) -> Result<SynSeen> {
        wait::until(what, wait::PATIENCE, || Ok(self.drain()?.into_iter().next()))
    }
}

/// Sends whole IP packets, headers included.
#[derive(Debug)]
pub struct PacketSender {
    socket: Socket,
}

impl PacketSender {
    /// Sends from `netns`.
    pub fn new(netns: &Netns, family: Family) -> Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        // IPPROTO_RAW: the header is the sender's.
        let socket = netns
            .run(|| Ok(Socket::new(domain, Type::RAW.cloexec(), Some(Protocol::from(libc::IPPROTO_RAW)))?))
            .with_context(|| format!("sending raw packets in {}", netns.name()))?;
        Ok(Self { socket })
    }

    /// Sends one packet to the next hop of `destination`.
    pub fn send(&self, packet: &[u8], destination: IpAddr) -> Result<()> {
        let sent = self.socket.send_to(packet, &SocketAddr::new(destination, 0).into());
        sent.map(drop).with_context(|| format!("sending a raw packet to {destination}"))
    }
}
