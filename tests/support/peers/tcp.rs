//! TCP clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::socket;
use super::stream::{self, Hash, Pattern};
use crate::addresses::Family;
use crate::netns::Netns;
use crate::wait::{self, PATIENCE};

/// The hash of `count` bytes as servers send them and clients upload them.
pub fn pattern_hash(count: u64) -> Hash {
    Pattern::new(count).hash()
}

fn open(netns: &Netns, to: SocketAddr) -> io::Result<Socket> {
    let _inside = netns.enter().map_err(io::Error::other)?;
    Socket::new(Domain::for_address(to), Type::STREAM.cloexec(), None)
}

/// State of a closed connection (net/tcp_states.h).
const TCP_CLOSE: u8 = 7;

/// A connection to a [`super::TcpServer`].
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

/// How to end a connection with a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The client sends it.
    ByClient,
    /// The server is asked to send it.
    ByServer,
}

impl Client {
    /// Connects from a port that the kernel chooses.
    pub fn connect(netns: &Netns, to: SocketAddr) -> io::Result<Self> {
        Self::connect_from(netns, None, to, PATIENCE)
    }

    /// Connects from `from`.
    ///
    /// # Errors
    /// The error of the connect; `TimedOut` after `deadline`.
    pub fn connect_from(
        netns: &Netns,
        from: Option<SocketAddr>,
        to: SocketAddr,
        deadline: Duration,
    ) -> io::Result<Self> {
        let socket = open(netns, to)?;
        if let Some(from) = from {
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
        }
        Self::finish(socket, to, deadline)
    }

    /// Connects with segments that travel no further than `ttl` hops.
    ///
    /// # Errors
    /// As [`Client::connect_from`].
    pub fn connect_with_ttl(
        netns: &Netns,
        from: SocketAddr,
        to: SocketAddr,
        ttl: u8,
        deadline: Duration,
    ) -> io::Result<Self> {
        let socket = open(netns, to)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket::set_ttl(&socket, Family::of(to.ip()), ttl)?;
        Self::finish(socket, to, deadline)
    }

    fn finish(socket: Socket, to: SocketAddr, deadline: Duration) -> io::Result<Self> {
        socket.connect_timeout(&to.into(), deadline)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// The socket.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Segments that had to be sent again.
    pub fn retransmissions(&self) -> io::Result<u32> {
        Ok(socket::tcp_info(&self.stream)?.tcpi_total_retrans)
    }

    /// How long reads and writes may take.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))
    }

    /// Sets TOS or traffic class.
    pub fn set_tos(&self, family: Family, tos: u8) -> io::Result<()> {
        socket::set_tos(&self.stream, family, tos)
    }

    /// Asks the server who it is and whom it sees.
    pub fn who(&mut self) -> Result<(usize, SocketAddr)> {
        self.stream.write_all(&stream::opening(stream::WHO, 0)).context("asking who the server is")?;
        let mut line = String::new();
        BufReader::with_capacity(1, &self.stream)
            .read_line(&mut line)
            .context("reading who the server is")?;
        let (number, peer) =
            line.trim().split_once(' ').with_context(|| format!("not an answer: {line:?}"))?;
        Ok((number.parse().context("the server's number")?, peer.parse().context("the server's peer")?))
    }

    /// Sends `data` and expects it back.
    ///
    /// # Errors
    /// When anything else comes back.
    pub fn echo(&mut self, data: &[u8]) -> Result<()> {
        self.stream
            .write_all(&stream::opening(stream::ECHO, data.len() as u64))
            .context("opening an echo")?;
        self.stream.write_all(data).context("sending to be echoed")?;
        let mut back = vec![0; data.len()];
        self.stream.read_exact(&mut back).context("reading the echo")?;
        ensure!(back == data, "the echo differs");
        Ok(())
    }

    /// Uploads `count` bytes and returns the hash of what the server received.
    pub fn upload(&mut self, count: u64) -> Result<Hash> {
        self.stream.write_all(&stream::opening(stream::UPLOAD, count)).context("opening an upload")?;
        Pattern::new(count).send(&mut self.stream).context("uploading")?;
        let mut hash = Hash::default();
        self.stream.read_exact(&mut hash).context("reading the hash of the upload")?;
        Ok(hash)
    }

    /// Downloads `count` bytes and returns their hash.
    pub fn download(&mut self, count: u64) -> Result<Hash> {
        self.stream.write_all(&stream::opening(stream::DOWNLOAD, count)).context("opening a download")?;
        stream::receive(&mut self.stream, count).context("downloading")
    }

    /// Sends an echo request, closes the sending side, and expects the answer and then the end.
    pub fn half_close(mut self, data: &[u8]) -> Result<()> {
        self.stream
            .write_all(&stream::opening(stream::ECHO, data.len() as u64))
            .context("opening an echo")?;
        self.stream.write_all(data).context("sending to be echoed")?;
        self.stream.shutdown(Shutdown::Write).context("closing the sending side")?;
        let mut back = Vec::new();
        self.stream.read_to_end(&mut back).context("reading the echo up to the end")?;
        ensure!(back == data, "the echo of {} bytes differs: {} bytes", data.len(), back.len());
        Ok(())
    }

    /// Asks the server to close first, and waits for it.
    pub fn close_by_server(mut self) -> Result<()> {
        self.stream.write_all(&stream::opening(stream::CLOSE, 0)).context("asking for the end")?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).context("waiting for the end")?;
        ensure!(rest.is_empty(), "bytes after the end");
        self.stream.shutdown(Shutdown::Both).context("closing too")?;
        wait::until("the connection's end", PATIENCE, || {
            Ok((socket::tcp_info(&self.stream)?.tcpi_state == TCP_CLOSE).then_some(()))
        })
    }

    /// Ends the connection with a RST; where the server sends it, waits until it arrives.
    pub fn reset(mut self, reset: Reset) -> Result<()> {
        match reset {
            // Not by closing with a linger of zero: a process that another test is just starting has a copy of the socket.
            Reset::ByClient => socket::disconnect(&self.stream).context("disconnecting"),
            Reset::ByServer => {
                self.stream.write_all(&stream::opening(stream::RESET, 0)).context("asking for a reset")?;
                match self.stream.read(&mut [0]) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
                    other => anyhow::bail!("expected a reset, got {other:?}"),
                }
            }
        }
    }
}
