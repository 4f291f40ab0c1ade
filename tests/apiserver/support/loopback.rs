//! Addresses of the loopback device that nobody else on this machine is likely to use.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

/// An address with a free port, for a server that is started later. No outgoing connection takes the port meanwhile: those have
/// addresses of their own.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., process_high, process_low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, process_high | 1, process_low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((IpAddr::from(own), 0)).expect("a free port of the loopback device");
    listener.local_addr().expect("the port's number")
}
