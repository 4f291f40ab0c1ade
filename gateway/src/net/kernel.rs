//! The rtnetlink socket: requests that are acknowledged, and lists.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use tokio::task::JoinHandle;

use super::error::Error;

/// The kernel changed the list while it was read (`linux/netlink.h`).
const NLM_F_DUMP_INTR: u16 = 0x10;
/// How often an interrupted list is read again.
const ATTEMPTS: u32 = 10;

/// A connection to the kernel's network configuration, in the namespace in which it was opened.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    handle: rtnetlink::Handle,
    _driver: Arc<Task>,
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kernel {
    /// Opens the socket. Must be called inside a tokio runtime.
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|source| Error::Socket { what: "a netlink socket", source })?;
        Ok(Self { handle, _driver: Arc::new(Task(tokio::spawn(connection))) })
    }

    /// Sends one request and waits for the kernel's answer.
    pub(super) async fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request).map_err(io::Error::other)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(error.to_io());
            }
        }
        Ok(())
    }

    /// Reads a whole list, and again if it changed meanwhile. Of a family that the kernel does not have the list is empty.
    pub(super) async fn list(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..ATTEMPTS {
            let list =
                self.list_once(message.clone()).await.map_err(|source| Error::Read { what, source })?;
            if let Some(list) = list {
                return Ok(list);
            }
        }
        Err(Error::Unstable { what })
    }

    async fn list_once(&self, message: RouteNetlinkMessage) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self.handle.clone().request(request).map_err(io::Error::other)?;
        let (mut list, mut whole) = (Vec::new(), true);
        while let Some(answer) = answers.next().await {
            whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => list.push(message),
                NetlinkPayload::Error(error) if error.raw_code() == -libc::EAFNOSUPPORT => {}
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => whole = false,
                _ => {}
            }
        }
        Ok(whole.then_some(list))
    }
}
