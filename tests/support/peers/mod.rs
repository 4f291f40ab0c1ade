//! Clients and servers: real sockets, made in the namespace where they belong.

mod icmp;
mod load;
mod raw;
mod server;
mod socket;
mod stream;
mod tcp;
mod udp;

pub use icmp::{IcmpListener, IcmpSeen, echo_request};
pub use load::{Datagrams, Streams};
pub use raw::{PacketSender, SynListener, SynSeen};
pub use server::{Datagram, TcpServer, UdpServer};
pub use tcp::{Client, Reset, pattern_hash};
pub use udp::{Received, UdpClient, UdpOutcome};
