//! TCP listeners that follow the cluster interface's addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

/// Between two attempts to bind an address that could not be bound: IPv6 addresses are tentative at first.
const RETRY: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 64;

/// One listener: an address, and the only device that it may be reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// Where to listen.
    pub address: SocketAddr,
    /// Index of the device. A device that was made anew has another one, and its listener is made anew too.
    pub ifindex: NonZeroU32,
}

impl Bind {
    /// Loopback in both families and `addresses` on the device `cluster`, all with `port`.
    ///
    /// Link-local addresses are left out: they need a scope, and nothing in the cluster addresses a pod by them.
    pub fn all(
        port: u16,
        cluster: Option<NonZeroU32>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Vec<Self> {
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let local = local.map(|address| Self { address: (address, port).into(), ifindex: LOOPBACK });
        let addresses = addresses.into_iter().filter(|address| !is_link_local(*address));
        let cluster =
            addresses.filter_map(|address| Some(Self { address: (address, port).into(), ifindex: cluster? }));
        let mut binds: Vec<_> = local.into_iter().chain(cluster).collect();
        binds.sort_unstable();
        binds.dedup();
        binds
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(self.address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        // By index, so that a device renamed or replaced between the look and the bind is not taken for the old one.
        match self.address {
            SocketAddr::V4(_) => socket.bind_device_by_index_v4(Some(self.ifindex))?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.bind_device_by_index_v6(Some(self.ifindex))?;
            }
        }
        socket.bind(&self.address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

/// Loopback is always the first device of a network namespace.
const LOOPBACK: NonZeroU32 = NonZeroU32::MIN;

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The set of listeners: kept as somebody else wants it.
#[derive(Debug)]
pub struct Listeners {
    router: Router,
    wanted: watch::Receiver<Vec<Bind>>,
    running: BTreeMap<Bind, Option<JoinHandle<()>>>,
}

impl Listeners {
    /// Serves `router` on whatever `wanted` holds.
    pub fn new(router: Router, wanted: watch::Receiver<Vec<Bind>>) -> Self {
        Self { router, wanted, running: BTreeMap::new() }
    }

    /// Follows `wanted` until its sender is gone; then closes every listener.
    pub async fn run(mut self) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            self.reconcile(&wanted);
            let changed = if self.running.values().any(Option::is_none) {
                match tokio::time::timeout(RETRY, self.wanted.changed()).await {
                    Ok(changed) => changed,
                    Err(_elapsed) => continue,
                }
            } else {
                self.wanted.changed().await
            };
            if changed.is_err() {
                self.reconcile(&[]);
                return;
            }
        }
    }

    fn reconcile(&mut self, wanted: &[Bind]) {
        self.running.retain(|bind, task| {
            let keep = wanted.contains(bind);
            if !keep && let Some(task) = task {
                task.abort();
                info!(address = %bind.address, ifindex = bind.ifindex, "admin server: stopped listening");
            }
            keep
        });
        for bind in wanted {
            let first = !self.running.contains_key(bind);
            let slot = self.running.entry(*bind).or_default();
            if slot.as_ref().is_some_and(|task| !task.is_finished()) {
                continue;
            }
            *slot = match bind.listen() {
                Ok(listener) => {
                    info!(address = %bind.address, ifindex = bind.ifindex, "admin server: listening");
                    let router = self.router.clone();
                    Some(tokio::spawn(async move {
                        if let Err(error) = axum::serve(listener, router).await {
                            warn!(%error, "admin server: listener ended");
                        }
                    }))
                }
                // A pod without IPv6 has no ::1; that is no fault.
                Err(error) if first && bind.address.ip() != IpAddr::V6(Ipv6Addr::LOCALHOST) => {
                    warn!(address = %bind.address, ifindex = bind.ifindex, %error, "admin server: cannot listen yet");
                    None
                }
                Err(error) => {
                    debug!(address = %bind.address, %error, "admin server: still cannot listen");
                    None
                }
            };
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for task in self.running.values().flatten() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_name_loopback_and_the_global_addresses_of_the_cluster_interface_only() {
        let cluster = NonZeroU32::new(7);
        let addresses = ["10.16.0.2", "169.254.3.4", "fe80::1", "fd00::2"].map(|text| text.parse().unwrap());
        let binds: Vec<_> = Bind::all(9090, cluster, addresses)
            .into_iter()
            .map(|bind| format!("{} {}", bind.address, bind.ifindex))
            .collect();
        assert_eq!(binds, ["10.16.0.2:9090 7", "127.0.0.1:9090 1", "[::1]:9090 1", "[fd00::2]:9090 7"]);
    }

    #[test]
    fn without_a_cluster_interface_only_loopback_is_served() {
        let binds = Bind::all(9090, None, ["10.16.0.2".parse().unwrap()]);
        assert!(binds.iter().all(|bind| bind.address.ip().is_loopback()), "{binds:?}");
    }
}
