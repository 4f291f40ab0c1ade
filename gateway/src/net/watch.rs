//! Waking up when somebody changes the network.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkFlags;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::decode;
use super::error::Error;
use super::kernel::Task;
use super::object::Neighbour;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Neigh,
];

/// A change is acted on when nothing more has happened for this long ...
const QUIET: Duration = Duration::from_millis(20);
/// ... or this long after it, whatever else happens.
const PATIENCE: Duration = Duration::from_millis(200);

/// Listens to the kernel's notifications about links, addresses, routes and rules, and the neighbours that are relied on.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    _tasks: [Task; 2],
}

#[derive(Debug, Default)]
struct Shared {
    changed: Notify,
    /// Interfaces seen without a carrier, or deleted.
    interrupted: Mutex<BTreeSet<u32>>,
    /// Neighbours that are to stay where they are. There may be many others, who come and go.
    relied_on: Mutex<Vec<Neighbour>>,
}

impl Watch {
    /// Subscribes. Must be called inside a tokio runtime.
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&GROUPS)
            .map_err(|source| Error::Socket { what: "a netlink socket for notifications", source })?;
        let shared = Arc::new(Shared::default());
        let heard = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            // An overrun (messages lost) arrives here too, and means the same: look again.
            while let Some((message, _)) = messages.next().await {
                if !heard.note(&message.payload) {
                    continue;
                }
                let limit = Instant::now() + PATIENCE;
                while let Ok(Some((message, _))) =
                    timeout_at(limit.min(Instant::now() + QUIET), messages.next()).await
                {
                    heard.note(&message.payload);
                }
                heard.changed.notify_one();
            }
        });
        Ok(Self { shared, _tasks: [Task(tokio::spawn(connection)), Task(listener)] })
    }

    /// Waits for a change, and until the burst that it belongs to is over. A change that happened before the call counts.
    /// Cancel-safe.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Replaces the neighbours that are to stay where they are.
    pub(super) fn rely_on(&self, neighbours: Vec<Neighbour>) {
        *self.shared.relied_on.lock().unwrap_or_else(PoisonError::into_inner) = neighbours;
    }

    /// The interfaces that were without a carrier at some time since the last call.
    pub(super) fn take_interrupted(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.shared.interrupted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// Whether this is news.
    fn note(&self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = payload else { return true };
        let index = match message {
            RouteNetlinkMessage::NewLink(link) if !link.header.flags.contains(LinkFlags::LowerUp) => {
                link.header.index
            }
            RouteNetlinkMessage::DelLink(link) => link.header.index,
            RouteNetlinkMessage::NewNeighbour(message) => {
                return decode::neighbour(message).is_some_and(|neighbour| self.has_moved(neighbour));
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                let neighbour = decode::neighbour(message);
                return neighbour.is_some_and(|gone| self.has_moved(Neighbour { mac: None, ..gone }));
            }
            _ => return true,
        };
        self.interrupted.lock().unwrap_or_else(PoisonError::into_inner).insert(index);
        true
    }

    fn has_moved(&self, now: Neighbour) -> bool {
        let relied_on = self.relied_on.lock().unwrap_or_else(PoisonError::into_inner);
        let before =
            relied_on.iter().find(|before| before.address == now.address && before.index == now.index);
        before.is_some_and(|before| before.mac != now.mac)
    }
}
