//! The gateway's network: VIPs, rules, routes, forwarding, announcements. Everything that speaks netlink is here.
//!
//! Level-triggered: each round reads what the kernel has ([`Observed`]), derives what the configuration asks for
//! ([`Desired`]), and carries out the difference ([`plan`]). A round that finds nothing to do does nothing. Nothing that
//! Sluice did not make is ever changed or removed; its own objects are marked in the kernel (see [`object`]).
//!
//! Needs the capabilities NET_ADMIN and NET_RAW.

mod announce;
mod apply;
mod decode;
mod desired;
mod encode;
mod error;
mod frame;
mod interfaces;
mod kernel;
pub mod object;
mod observe;
mod plan;
#[cfg(test)]
mod samples;
mod solicit;
mod watch;

pub use desired::Desired;
pub use error::{Cause, Error, Failure};
pub use interfaces::{Interface, Interfaces};
pub use object::{Make, Neighbour, Observed};
pub use plan::{Blocked, Plan, Step, plan};
pub use solicit::Solicitation;

use std::net::IpAddr;

use announce::{Claim, Keeper, Work};
use kernel::Kernel;
use watch::Watch;

use crate::config::Config;

/// The network of the namespace in which it was opened.
#[derive(Debug)]
pub struct Net {
    kernel: Kernel,
    watch: Watch,
    keeper: Keeper,
}

/// What a round found and did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The interfaces and next hops as they are after the round.
    pub interfaces: Interfaces,
    /// What was done; empty when all was as it should be.
    pub done: Vec<Step>,
    /// What failed. The rest was done all the same; the next round tries again.
    pub failed: Vec<Failure>,
    /// What cannot be done because somebody else's object is in the way.
    pub blocked: Vec<Blocked>,
}

impl Net {
    /// Opens the sockets, in the network namespace of the calling thread. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let kernel = Kernel::open()?;
        let keeper = Keeper::start(kernel.clone())?;
        Ok(Self { watch: Watch::open()?, kernel, keeper })
    }

    /// Reads the network.
    pub async fn observe(&self) -> Result<Observed, Error> {
        observe::observe(&self.kernel).await
    }

    /// What the kernel knows of the neighbours on the interface of this index. It is asked for the next hops by [`Net::reconcile`].
    pub async fn neighbours(&self, index: u32) -> Result<Vec<Neighbour>, Error> {
        observe::neighbours(&self.kernel, index).await
    }

    /// From now on [`Net::changed`] also wakes up when one of these neighbours is no longer where it is said to be.
    pub fn rely_on(&self, neighbours: Vec<Neighbour>) {
        self.watch.rely_on(neighbours);
    }

    /// One round: makes the network what `config` asks for, announces VIPs that are new here (or whose link or MAC is), and
    /// keeps the neighbours of the next hops fresh from now on. Waits for nobody but the kernel.
    pub async fn reconcile(&self, config: &Config) -> Result<Outcome, Error> {
        let mut observed = self.observe().await?;
        let Plan { steps, blocked } = plan(&Desired::new(config, &observed), &observed);
        let (done, failed) = apply::apply(&self.kernel, steps).await;
        if !done.is_empty() {
            observed = self.observe().await?;
        }
        let interfaces = Interfaces::new(&config.gateway, &observed);
        self.keeper.keep(self.work(config, &interfaces, &done));
        Ok(Outcome { interfaces, done, failed, blocked })
    }

    /// Waits until somebody has changed links, addresses, routes or rules (or what is relied on) since the last call, and for the end of the burst
    /// of changes. Our own changes count, so a round that did something is followed by one that confirms it. Cancel-safe.
    /// The kernel does not tell everything (settings below `/proc/sys`), so call [`Net::reconcile`] from time to time as well.
    pub async fn changed(&self) {
        self.watch.changed().await;
    }

    /// Removes everything that Sluice made in this namespace, and nothing else; announces nothing any more.
    pub async fn remove(&self) -> Result<Outcome, Error> {
        self.keeper.keep(Work::default());
        let observed = self.observe().await?;
        let Plan { steps, blocked } = plan(&Desired::default(), &observed);
        let (done, failed) = apply::apply(&self.kernel, steps).await;
        Ok(Outcome { interfaces: Interfaces::default(), done, failed, blocked })
    }

    fn work(&self, config: &Config, interfaces: &Interfaces, done: &[Step]) -> Work {
        let interrupted = self.watch.take_interrupted();
        let mut work = Work::default();
        if let Some(external) = interfaces.external.as_ref().filter(|external| external.running) {
            for vip in config.services.iter().flat_map(|service| &service.vips) {
                work.next_hops.extend(vip.gateway.map(|hop| (external.index, hop)));
                let (Some(mac), true) =
                    (external.mac, external.addresses.iter().any(|a| a.addr() == vip.address.addr()))
                else {
                    continue;
                };
                let claim = Claim { address: vip.address.addr(), index: external.index, mac };
                if interrupted.contains(&external.index) || done.iter().any(|step| adds(step, claim.address))
                {
                    work.again.push(claim);
                }
                work.claims.push(claim);
            }
        }
        if let Some(cluster) = interfaces.cluster.as_ref().filter(|cluster| cluster.running) {
            for target in config.services.iter().flat_map(|service| service.targets.iter().copied()) {
                work.next_hops.push((cluster.index, interfaces.cluster_gateway(target).unwrap_or(target)));
            }
        }
        work.next_hops.sort_unstable();
        work.next_hops.dedup();
        work
    }
}

fn adds(step: &Step, address: IpAddr) -> bool {
    matches!(step, Step::AddAddress(added) if added.net.addr() == address)
}
