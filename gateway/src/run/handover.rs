//! Whether packets to targets are handed to the other end of `eth0`, rather than sent by `eth0`.
//!
//! A veth's other end receives what is handed to it at once: there is no queue between the two ends, and none of what the kernel does
//! for a device that sends. What would stand there is passed by as well, so that this is only for a veth where nothing does. The
//! frame's addresses are written by the program, from what the kernel's own neighbour table says.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sluice_gateway_ebpf::family::{V4, V6};
use tracing::info;

use super::ways::{self, NextHop, Ways};
use crate::bpf::{DataPath, LoaderFamily};
use crate::config::Config;
use crate::net::{Interface, Interfaces, Neighbour};
use crate::status::{AttachMode, Handover as Status};
use crate::tables::IpBytes;

/// How often is looked whether the other end has got an XDP program or GRO.
const LOOK: Duration = Duration::from_secs(60);
/// How soon, if nothing could be told.
const RETRY: Duration = Duration::from_secs(5);
/// The queueing disciplines that only pass on.
const PLAIN_QDISCS: [&str; 2] = ["noqueue", "noop"];

/// The choice, and when to make it again.
#[derive(Debug)]
pub struct Handover {
    lease: Duration,
    seen: Option<Seen>,
}

/// What was found of some ways.
#[derive(Debug)]
struct Seen {
    ways: Ways,
    /// Frames by XDP arrive. Not known in the first pass, which has no time to wait for what does not come.
    takes_xdp: Option<bool>,
    look: Instant,
}

impl Handover {
    /// Nothing is chosen. [`Self::settle`] will be called at least every `resync`.
    pub fn new(resync: Duration) -> Self {
        Self { lease: ways::lease(resync), seen: None }
    }

    /// Chooses, and tells the tc programs.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn settle(
        &mut self,
        config: &Config,
        interfaces: &Interfaces,
        mode: Option<AttachMode>,
        data_path: &mut DataPath,
    ) -> Result<(Status, Vec<Neighbour>)> {
        let ways = match Ways::of(config, interfaces) {
            Ok(ways) => ways,
            Err(reason) => return stop(Some(false), reason, data_path),
        };
        let cluster = &ways.cluster.name;
        if let Some(reason) = interfaces.cluster.as_ref().and_then(obstacle) {
            return stop(Some(false), reason, data_path);
        }
        match if mode == Some(AttachMode::Xdp) { Some(true) } else { self.takes_xdp(&ways) } {
            Some(false) => {}
            Some(true) => {
                let what = "has an XDP program or GRO, which would be passed by";
                return stop(Some(false), format!("the other end of {cluster} {what}"), data_path);
            }
            None => {
                return stop(None, format!("not known yet what is at the other end of {cluster}"), data_path);
            }
        }
        let neighbours: Vec<Neighbour> = [ways.v4, ways.v6]
            .into_iter()
            .flatten()
            .map(|NextHop { address, .. }| Neighbour {
                index: ways.cluster.index,
                address,
                mac: interfaces.cluster_neighbour(address),
            })
            .collect();
        let until = ways::end_of(self.lease);
        put::<V4>(data_path, &ways, ways.v4, &neighbours, until)?;
        put::<V6>(data_path, &ways, ways.v6, &neighbours, until)?;
        let unknown = neighbours.iter().find(|neighbour| neighbour.mac.is_none());
        let reason = match unknown {
            Some(unknown) => format!("the Ethernet address of {} is not known", unknown.address),
            None => format!("{cluster} is a veth, and nothing stands between it and its other end"),
        };
        Ok((Status { used: unknown.is_none().then_some(true), reason }, neighbours))
    }

    /// Whether the other end takes frames by XDP, as far as is known.
    fn takes_xdp(&mut self, ways: &Ways) -> Option<bool> {
        let now = Instant::now();
        let (takes_xdp, look) = match self.seen.take().filter(|seen| seen.ways == *ways) {
            None => (None, now),
            Some(seen) if now < seen.look => (seen.takes_xdp, seen.look),
            Some(_) => match ways.takes_xdp() {
                Ok(None) => (None, now + RETRY),
                Ok(known) => (known, now + LOOK),
                Err(error) => {
                    info!(error = format!("{error:#}"), "the cluster link's other end cannot be tried");
                    (None, now + RETRY)
                }
            },
        };
        self.seen = Some(Seen { ways: ways.clone(), takes_xdp, look });
        takes_xdp
    }
}

/// Why packets cannot be handed to the other end of a link. Pure.
fn obstacle(link: &Interface) -> Option<String> {
    let (name, make) = (&link.name, &link.make);
    let kind = make.kind.as_deref().unwrap_or("device of its own");
    let qdisc = make.qdisc.as_deref().filter(|qdisc| !PLAIN_QDISCS.contains(qdisc));
    if kind != "veth" {
        Some(format!("{name} is a {kind}, not a veth"))
    } else if !make.reaches_out {
        Some(format!("the other end of {name} is in the same network namespace"))
    } else {
        qdisc.map(|qdisc| format!("{name} has a queueing discipline ({qdisc}), which would be passed by"))
    }
}

fn stop(used: Option<bool>, reason: String, data_path: &mut DataPath) -> Result<(Status, Vec<Neighbour>)> {
    data_path.clear_handover().context("telling tc that nothing is handed over")?;
    Ok((Status { used, reason }, Vec::new()))
}

/// Tells the program of family `F` of a next hop whose Ethernet address is known, or that there is none.
fn put<F: LoaderFamily<Addr: IpBytes>>(
    data_path: &mut DataPath,
    ways: &Ways,
    hop: Option<NextHop>,
    neighbours: &[Neighbour],
    until: u32,
) -> Result<()> {
    let told = hop.and_then(|hop| {
        let mac = neighbours.iter().find(|neighbour| neighbour.address == hop.address)?.mac?;
        hop.told::<F>(ways, mac, until)
    });
    data_path.set_handover::<F>(told.unwrap_or_default()).context("telling tc the next hop")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Make;

    fn eth0(kind: Option<&str>, reaches_out: bool, qdisc: &str) -> Interface {
        Interface {
            name: "eth0".to_owned(),
            make: Make { kind: kind.map(str::to_owned), reaches_out, qdisc: Some(qdisc.to_owned()) },
            ..Interface::default()
        }
    }

    #[test]
    fn only_a_veth_that_nothing_stands_at_is_handed_packets() {
        assert_eq!(obstacle(&eth0(Some("veth"), true, "noqueue")), None);
        let reason = |link: Interface| obstacle(&link).unwrap();
        assert_eq!(reason(eth0(Some("macvlan"), true, "noqueue")), "eth0 is a macvlan, not a veth");
        assert!(reason(eth0(None, false, "mq")).contains("not a veth"));
        assert!(reason(eth0(Some("veth"), false, "noqueue")).contains("same network namespace"));
        assert!(reason(eth0(Some("veth"), true, "tbf")).contains("tbf"));
    }
}
