//! Whether the XDP programs run on the external device: where its driver can, and only while what they send is seen to arrive.
//!
//! Between a redirect and the wire nobody reports a loss: a veth, for one, takes redirected frames only if its other end has GRO or an
//! XDP program. So before XDP is used, and every few seconds from then on, the next hop on the cluster link is asked for
//! its Ethernet address with frames sent in this very way. Its answers prove the way and are the address. They count for a short time:
//! without a daemon that asks again, the programs soon leave everything to tc.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sluice_gateway_ebpf::family::{V4, V6};
use sluice_gateway_ebpf::maps::Hop;
use tracing::info;

use crate::bpf::{DataPath, LoaderFamily, redirect_by_xdp};
use crate::config::{self, Config};
use crate::net::{Interface, Interfaces, Solicitation};
use crate::status::{Attach, AttachMode};
use crate::tables::{IpBytes, monotonic_seconds};

/// Frames of one try. All have to be answered: one answer might be to a question of the kernel's.
const FRAMES: u32 = 3;
/// How long their answers may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// Tries before a way that has worked is given up.
const TRIES: u32 = 3;
/// A way that works is tried again this long after it was.
const RENEW: Duration = Duration::from_secs(5);
/// One that does not, after this long, and then twice as long, and so on ...
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// ... up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Answers count for at least this long ...
const LEASE: Duration = Duration::from_secs(30);
/// ... and for as many passes, should they be rare.
const LEASE_PASSES: u32 = 3;

/// The choice, and when to make it again.
#[derive(Debug)]
pub struct Xdp {
    lease: Duration,
    ways: Option<Ways>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is known of these ways.
    New,
    /// XDP is in use.
    On { renew: Instant },
    /// It is not.
    Off { reason: String, retry: Instant, pause: Duration },
}

impl Xdp {
    /// Nothing is chosen. [`Self::settle`] will be called at least every `resync`.
    pub fn new(resync: Duration) -> Self {
        Self { lease: LEASE.max(resync * LEASE_PASSES), ways: None, state: State::New }
    }

    /// Chooses, and brings the programs to the device or takes them away. The tc programs have to be attached.
    ///
    /// # Errors
    /// XDP cannot be taken away, or a map not be written.
    pub fn settle(
        &mut self,
        config: &Config,
        interfaces: &Interfaces,
        data_path: &mut DataPath,
    ) -> Result<Attach> {
        let wanted = config.gateway.attach;
        let chosen = match Ways::of(config, interfaces) {
            _ if wanted == config::Attach::Tc => Err("the gateway file says so".to_owned()),
            Err(reason) => Err(reason),
            Ok(ways) => {
                if self.ways.as_ref() != Some(&ways) {
                    self.ways = Some(ways.clone());
                    self.state = State::New;
                }
                self.follow(&ways, data_path)?
            }
        };
        Ok(match chosen {
            Ok(reason) => Attach { wanted, mode: AttachMode::Xdp, reason },
            Err(reason) => {
                if !matches!(self.state, State::Off { .. }) {
                    self.state = State::New;
                }
                data_path.detach_xdp().context("taking XDP away")?;
                Attach { wanted, mode: AttachMode::Tc, reason }
            }
        })
    }

    /// Why XDP is used, or why not.
    fn follow(&mut self, ways: &Ways, data_path: &mut DataPath) -> Result<Result<String, String>> {
        let now = Instant::now();
        let (tries, pause) = match &self.state {
            State::New => (1, FIRST_RETRY),
            State::On { renew } if now < *renew => {
                data_path.attach_xdp(&ways.external.name).context("attaching XDP")?;
                return Ok(Ok(ways.arrives()));
            }
            State::On { .. } => (TRIES, FIRST_RETRY),
            State::Off { reason, retry, .. } if now < *retry => return Ok(Err(reason.clone())),
            State::Off { pause, .. } => (1, (*pause * 2).min(LAST_RETRY)),
        };
        let tried = self.try_ways(ways, tries, data_path)?;
        self.state = match &tried {
            Ok(()) => State::On { renew: now + RENEW },
            Err(reason) => State::Off { reason: reason.clone(), retry: now + pause, pause },
        };
        Ok(tried.map(|()| ways.arrives()))
    }

    /// Puts XDP in force for every next hop that answers; the reason, if that cannot be.
    fn try_ways(&self, ways: &Ways, tries: u32, data_path: &mut DataPath) -> Result<Result<(), String>> {
        let external = &ways.external.name;
        if let Some(kind) = DataPath::without_xdp(external)? {
            return Ok(Err(format!("{external} is a {kind}, which has no native XDP")));
        }
        let ask = |hop: Option<NextHop>| hop.map_or(Ok(None), |hop| hop.ask(ways, tries));
        let (v4, v6) = match (ask(ways.v4), ask(ways.v6)) {
            (Err(error), _) | (_, Err(error)) => {
                return Ok(Err(format!(
                    "frames could not be sent by XDP into {}: {error:#}",
                    ways.cluster.name
                )));
            }
            (Ok(None), Ok(None)) => return Ok(Err(ways.silent())),
            (Ok(v4), Ok(v6)) => (v4, v6),
        };
        if let Err(error) = data_path.attach_xdp(external) {
            return Ok(Err(format!("{:#}", anyhow::Error::from(error))));
        }
        let until = monotonic_seconds().wrapping_add(self.lease.as_secs() as u32);
        put::<V4>(data_path, ways, ways.v4, v4, until)?;
        put::<V6>(data_path, ways, ways.v6, v6, until)?;
        Ok(Ok(()))
    }
}

/// The problem that a choice is.
pub fn problem(attach: &Attach) -> Option<String> {
    attach.falls_short().then(|| {
        format!("gateway.attach is xdp, but tc serves: {}; mend that, or write `attach: auto`", attach.reason)
    })
}

/// The links, and the next hops on the cluster link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ways {
    external: End,
    cluster: End,
    v4: Option<NextHop>,
    v6: Option<NextHop>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    name: String,
    index: u32,
    mac: [u8; 6],
}

/// A next hop on the cluster link, and our own address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NextHop {
    address: IpAddr,
    own: IpAddr,
}

impl Ways {
    /// Finds them; else says what is missing.
    fn of(config: &Config, interfaces: &Interfaces) -> Result<Self, String> {
        let end = |interface: &Option<Interface>, name: &str| {
            let interface = interface.as_ref().filter(|interface| interface.running);
            let interface = interface.ok_or_else(|| format!("{name} is missing or down"))?;
            let mac = interface.mac.ok_or_else(|| format!("{name} is no Ethernet device"))?;
            Ok::<_, String>(End { name: interface.name.clone(), index: interface.index, mac })
        };
        let next_hop = |v4: bool| {
            let mut targets = config.services.iter().flat_map(|service| &service.targets);
            let target = *targets.find(|target| target.is_ipv4() == v4)?;
            let address = interfaces.cluster_gateway(target).unwrap_or(target);
            Some(NextHop { address, own: interfaces.snat(target)? })
        };
        let (v4, v6) = (next_hop(true), next_hop(false));
        let ways = Self {
            external: end(&interfaces.external, &config.gateway.external_interface)?,
            cluster: end(&interfaces.cluster, &config.gateway.cluster_interface)?,
            v4,
            v6,
        };
        if v4.is_none() && v6.is_none() {
            return Err(format!("{} has no next hop to try", ways.cluster.name));
        }
        Ok(ways)
    }

    fn next_hops(&self) -> String {
        let addresses: Vec<_> =
            [self.v4, self.v6].into_iter().flatten().map(|hop| hop.address.to_string()).collect();
        addresses.join(" and ")
    }

    fn arrives(&self) -> String {
        format!("what XDP sends into {} arrives at {}", self.cluster.name, self.next_hops())
    }

    fn silent(&self) -> String {
        let cluster = &self.cluster.name;
        format!(
            "what XDP sends into {cluster} does not arrive at {}: if {cluster} is a veth, its other end needs GRO (`ethtool -K DEVICE gro on` on the node)",
            self.next_hops()
        )
    }
}

impl NextHop {
    /// Asks the next hop by way of XDP; its Ethernet address.
    fn ask(self, ways: &Ways, tries: u32) -> Result<Option<[u8; 6]>> {
        let End { index, mac, .. } = ways.cluster;
        let Some(question) = Solicitation::new(index, self.address, self.own, mac)? else { return Ok(None) };
        for _ in 0..tries {
            redirect_by_xdp(index, &question.frame, FRAMES)?;
            if let Some(mac) = question.answers(FRAMES as usize, PATIENCE)? {
                return Ok(Some(mac));
            }
        }
        info!(next_hop = %self.address, "no answer to frames sent by XDP");
        Ok(None)
    }
}

/// Tells the program of family `F` of a next hop that has answered, or that there is none.
fn put<F: LoaderFamily<Addr: IpBytes>>(
    data_path: &mut DataPath,
    ways: &Ways,
    hop: Option<NextHop>,
    answer: Option<[u8; 6]>,
    until: u32,
) -> Result<()> {
    let hop = hop.zip(answer).and_then(|(hop, destination)| {
        let address = F::Addr::from_ip(hop.address)?;
        let (source, external) = (ways.cluster.mac, ways.external.mac);
        Some(Hop { address, until, destination, source, external, pad: 0 })
    });
    data_path.set_hop::<F>(hop.unwrap_or_default()).context("telling XDP the next hop")
}
