//! Asking a neighbour for its link address with frames that somebody else sends, and hearing the answers.
//!
//! The kernel asks the same neighbours by itself, and an answer does not say which question it is to. So several are asked at
//! once, faster than the kernel would, and as many answers are waited for.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::frame::{PacketSocket, answer, solicitation};

/// Questions to one neighbour.
#[derive(Debug)]
pub struct Solicitation {
    socket: PacketSocket,
    index: u32,
    neighbour: IpAddr,
    mac: [u8; 6],
    /// The frame that asks.
    pub frame: Vec<u8>,
}

impl Solicitation {
    /// Listens on the interface `index` for what `neighbour` answers to `own`, whose Ethernet address is `mac`. `None`: the two
    /// addresses are of different families.
    ///
    /// # Errors
    /// The packet socket cannot be opened (NET_RAW), or there is no such interface.
    pub fn new(index: u32, neighbour: IpAddr, own: IpAddr, mac: [u8; 6]) -> io::Result<Option<Self>> {
        let Some(frame) = solicitation(neighbour, own, mac) else { return Ok(None) };
        let socket = PacketSocket::listening(index, [frame[12], frame[13]])?;
        Ok(Some(Self { socket, index, neighbour, mac, frame }))
    }

    /// Sends the frame as any program sends one.
    ///
    /// # Errors
    /// The socket fails.
    pub fn send(&self) -> io::Result<()> {
        self.socket.send(self.index, &self.frame)
    }

    /// Waits for `count` answers, at most for `patience`. The neighbour's Ethernet address; `None`: fewer came.
    ///
    /// # Errors
    /// The socket fails.
    pub fn answers(&self, count: usize, patience: Duration) -> io::Result<Option<[u8; 6]>> {
        let deadline = Instant::now() + patience;
        let mut heard = 0;
        while let Some(frame) = self.socket.receive(deadline)? {
            let Some(mac) = answer(&frame, self.neighbour, self.mac) else { continue };
            heard += 1;
            if heard == count {
                return Ok(Some(mac));
            }
        }
        Ok(None)
    }
}
