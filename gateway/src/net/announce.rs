//! Telling the external network where the VIPs are, and keeping the next hops' addresses known.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::encode;
use super::error::Error;
use super::frame::{self, PacketSocket};
use super::kernel::{Kernel, Task};

/// When a VIP is announced, counted from when it became ours here: at once, and then often enough to survive lost frames
/// and a switch port that is not forwarding yet.
const BURST: [Duration; 5] = [
    Duration::from_secs(0),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// How often the kernel is asked to check a next hop. Below the 15 to 45 s for which it believes an answer.
const RESOLVE: Duration = Duration::from_secs(10);

/// An address, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// The VIP.
    pub(super) address: IpAddr,
    /// Interface index.
    pub(super) index: u32,
    /// The interface's Ethernet address.
    pub(super) mac: [u8; 6],
}

/// What the keeper keeps doing until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// Addresses that are ours. One that was not in the last work is announced.
    pub(super) claims: Vec<Claim>,
    /// Those of `claims` that are announced even if they were.
    pub(super) again: Vec<Claim>,
    /// Interface index and address of the next hops.
    pub(super) next_hops: Vec<(u32, IpAddr)>,
}

/// The task that announces and resolves. It ends with this handle.
#[derive(Debug)]
pub(super) struct Keeper {
    work: mpsc::UnboundedSender<Work>,
    _task: Task,
}

impl Keeper {
    /// Opens the packet socket and starts the task.
    pub(super) fn start(kernel: Kernel) -> Result<Self, Error> {
        let socket = PacketSocket::open().map_err(|source| Error::Socket {
            what: "a packet socket for ARP and neighbour advertisements (capability NET_RAW)",
            source,
        })?;
        let (work, orders) = mpsc::unbounded_channel();
        Ok(Self { work, _task: Task(tokio::spawn(keep(kernel, socket, orders))) })
    }

    /// Replaces the work.
    pub(super) fn keep(&self, work: Work) {
        if self.work.send(work).is_err() {
            tracing::error!("the task that announces addresses has ended");
        }
    }
}

async fn keep(kernel: Kernel, socket: PacketSocket, mut orders: mpsc::UnboundedReceiver<Work>) {
    let mut schedule = Schedule::default();
    let mut next_hops = Vec::new();
    let mut resolve_at = Instant::now();
    loop {
        let wake = schedule.next().map_or(resolve_at, |next| next.min(resolve_at));
        tokio::select! {
            order = orders.recv() => {
                let Some(work) = order else { return };
                schedule.update(Instant::now(), &work);
                if next_hops != work.next_hops {
                    next_hops = work.next_hops;
                    resolve_at = Instant::now();
                }
            }
            () = sleep_until(wake) => {}
        }
        for claim in schedule.due(Instant::now()) {
            announce(&socket, &claim);
        }
        if resolve_at <= Instant::now() {
            resolve_at = Instant::now() + RESOLVE;
            for (index, address) in &next_hops {
                resolve(&kernel, *index, *address).await;
            }
        }
    }
}

fn announce(socket: &PacketSocket, claim: &Claim) {
    for frame in frame::announcements(claim.address, claim.mac) {
        match socket.send(claim.index, &frame) {
            Ok(()) => tracing::debug!(address = %claim.address, interface = claim.index, "announced"),
            Err(error) => {
                tracing::warn!(address = %claim.address, interface = claim.index, %error, "announcement not sent");
            }
        }
    }
}

async fn resolve(kernel: &Kernel, index: u32, address: IpAddr) {
    let message = RouteNetlinkMessage::NewNeighbour(encode::resolve(index, address));
    // "Replace" only allows the neighbour to exist already; with the flag USE nothing of it is replaced.
    let result: io::Result<()> = kernel.request(message, NLM_F_CREATE | NLM_F_REPLACE).await;
    if let Err(error) = result {
        tracing::debug!(%address, interface = index, %error, "next hop not checked");
    }
}

/// Which claim is announced when. Pure.
#[derive(Debug, Default)]
struct Schedule {
    /// Start of the burst, and how many of its announcements are out.
    bursts: BTreeMap<Claim, (Instant, usize)>,
}

impl Schedule {
    fn update(&mut self, now: Instant, work: &Work) {
        self.bursts.retain(|claim, _| work.claims.contains(claim) && !work.again.contains(claim));
        for claim in &work.claims {
            self.bursts.entry(*claim).or_insert((now, 0));
        }
    }

    fn due(&mut self, now: Instant) -> Vec<Claim> {
        let mut due = Vec::new();
        for (claim, (start, sent)) in &mut self.bursts {
            if BURST.get(*sent).is_some_and(|offset| *start + *offset <= now) {
                *sent += 1;
                due.push(*claim);
            }
        }
        due
    }

    fn next(&self) -> Option<Instant> {
        self.bursts.values().filter_map(|(start, sent)| Some(*start + *BURST.get(*sent)?)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(last: u8, mac: u8) -> Claim {
        Claim { address: IpAddr::from([172, 18, 0, last]), index: 4, mac: [2, 0, 0, 0, 0, mac] }
    }

    fn work(claims: &[Claim], again: &[Claim]) -> Work {
        Work { claims: claims.to_vec(), again: again.to_vec(), next_hops: Vec::new() }
    }

    /// The seconds at which something is announced, stepping to each moment that the schedule names.
    fn play(schedule: &mut Schedule, start: Instant) -> Vec<u64> {
        let mut seconds = Vec::new();
        while let Some(next) = schedule.next() {
            for _ in schedule.due(next) {
                seconds.push((next - start).as_secs());
            }
        }
        seconds
    }

    #[test]
    fn a_burst_is_five_announcements_and_then_silence() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.update(start, &work(&[claim(18, 1)], &[]));
        assert_eq!(play(&mut schedule, start), [0, 1, 2, 4, 8]);
        schedule.update(start + Duration::from_secs(9), &work(&[claim(18, 1)], &[]));
        assert_eq!(schedule.next(), None, "no news, no announcement");
    }

    #[test]
    fn news_start_a_burst_of_their_own() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.update(start, &work(&[claim(18, 1)], &[]));
        play(&mut schedule, start);
        schedule.update(start, &work(&[claim(18, 1)], &[claim(18, 1)]));
        assert_eq!(play(&mut schedule, start), [0, 1, 2, 4, 8], "again");
        schedule.update(start, &work(&[claim(18, 2)], &[]));
        assert_eq!(schedule.due(start), [claim(18, 2)], "another MAC");
        schedule.update(start, &work(&[claim(18, 2), claim(19, 2)], &[]));
        assert_eq!(
            schedule.due(start),
            [claim(19, 2)],
            "another VIP; the first one's burst goes on at its own time"
        );
    }

    #[test]
    fn a_vip_that_is_gone_is_announced_no_more_and_anew_when_it_returns() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.update(start, &work(&[claim(18, 1)], &[]));
        assert_eq!(schedule.due(start), [claim(18, 1)]);
        schedule.update(start, &work(&[], &[]));
        assert_eq!(schedule.next(), None);
        schedule.update(start, &work(&[claim(18, 1)], &[]));
        assert_eq!(schedule.due(start), [claim(18, 1)]);
    }
}
