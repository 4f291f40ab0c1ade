//! Load in the background: connections that must not notice what happens to the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Client, UdpClient, UdpOutcome};
use crate::netns::Netns;
use crate::wait;

/// TCP connections that exchange echoes in turn, until they are finished.
#[derive(Debug)]
pub struct Streams {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Result<Vec<Client>>>,
}

impl Streams {
    /// Opens `count` connections and keeps them busy.
    pub fn start(netns: &Netns, to: SocketAddr, count: usize) -> Result<Self> {
        let mut clients = (0..count)
            .map(|index| {
                Client::connect(netns, to).with_context(|| format!("opening stream {index} to {to}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, rounds) = (stop.clone(), rounds.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let round = rounds.load(Ordering::Relaxed);
                    for (index, client) in clients.iter_mut().enumerate() {
                        let mut data = [0; 512];
                        data[..8].copy_from_slice(&round.to_be_bytes());
                        client
                            .echo(&data)
                            .with_context(|| format!("stream {index} to {to} in round {round}"))?;
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(clients)
            }
        });
        Ok(Self { stop, rounds, thread })
    }

    /// Waits until every connection has exchanged `count` more echoes, or one has failed.
    pub fn wait_rounds(&self, count: u64) -> Result<()> {
        // The round under way may have begun before the call.
        let target = self.rounds.load(Ordering::Relaxed) + count + 1;
        wait::until("every stream goes on", Duration::from_secs(30), || {
            let done = self.rounds.load(Ordering::Relaxed) >= target || self.thread.is_finished();
            Ok(done.then_some(()))
        })
    }

    /// Ends the load and returns the connections.
    ///
    /// # Errors
    /// When any of them failed.
    pub fn finish(self) -> Result<Vec<Client>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the load's thread panicked"))?
    }
}

/// Datagrams, one after the other: since each must be answered before the next is sent, a lost one is seen.
#[derive(Debug)]
pub struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Datagrams {
    /// Begins to exchange datagrams.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let mut client = UdpClient::connect_any(netns, to)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let (outcome, errors) = client.exchange(&count.to_be_bytes(), wait::PATIENCE)?;
                    ensure!(
                        matches!(outcome, UdpOutcome::Reply(_)),
                        "datagram {count} to {to}: {outcome:?} {errors:?}"
                    );
                    count += 1;
                }
                Ok(count)
            }
        });
        Ok(Self { stop, thread })
    }

    /// Ends the load and returns how many were exchanged.
    ///
    /// # Errors
    /// When one was lost.
    pub fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the load's thread panicked"))?
    }
}
