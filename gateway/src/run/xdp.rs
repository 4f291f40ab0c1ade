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

use crate::bpf::{self, DataPath, LoaderFamily, redirect_by_xdp};
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

    /// Starts anew: the programs and maps are others.
    pub fn forget(&mut self) {
        self.state = State::New;
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
            State::On { renew } if now < *renew => (0, FIRST_RETRY),
            State::On { .. } => (TRIES, FIRST_RETRY),
            State::Off { reason, retry, .. } if now < *retry => return Ok(Err(reason.clone())),
            State::Off { pause, .. } => (1, (*pause * 2).min(LAST_RETRY)),
        };
        let tried = match tries {
            // Proved a moment ago; but somebody may have taken the program away.
            0 => attach(ways, data_path),
            _ => self.try_ways(ways, tries, data_path)?,
        };
        self.state = match (&tried, &self.state) {
            (Ok(()), State::On { renew }) if tries == 0 => State::On { renew: *renew },
            (Ok(()), _) => State::On { renew: now + RENEW },
            (Err(reason), _) => State::Off { reason: reason.clone(), retry: now + pause, pause },
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
        if let Err(reason) = attach(ways, data_path) {
            return Ok(Err(reason));
        }
        let until = monotonic_seconds().wrapping_add(self.lease.as_secs() as u32);
        put::<V4>(data_path, ways, ways.v4, v4, until)?;
        put::<V6>(data_path, ways, ways.v6, v6, until)?;
        Ok(Ok(()))
    }
}

/// Brings the programs to the external device; the reason, if it has none to take them.
fn attach(ways: &Ways, data_path: &mut DataPath) -> Result<(), String> {
    let external = &ways.external.name;
    data_path.attach_xdp(external).map_err(|error| {
        let code = match &error {
            bpf::Error::Device { source, .. } => source.raw_os_error(),
            _ => None,
        };
        match code {
            Some(libc::EOPNOTSUPP) => format!("the driver of {external} has no native XDP"),
            Some(libc::EBUSY | libc::EEXIST) => format!("{external} runs another XDP program"),
            Some(libc::ERANGE) => format!("the other end of {external} has too large an MTU for XDP"),
            _ => format!("{:#}", anyhow::Error::from(error)),
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, addresses: &[&str]) -> Interface {
        Interface {
            name: name.to_owned(),
            index,
            mtu: 1500,
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            running: true,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn interfaces() -> Interfaces {
        Interfaces {
            external: Some(interface("net1", 3, &[])),
            cluster: Some(interface("eth0", 2, &["10.16.0.2/16", "fd00:16::2/64"])),
            cluster_gateways: vec!["10.16.0.1".parse().unwrap()],
        }
    }

    fn config(vips: &str, targets: &str) -> Config {
        let text = format!(
            "version: 1\nservices: [{{name: a, vips: [{vips}], targets: [{targets}], ports: [{{port: 80}}]}}]\n"
        );
        config::parse("test", &text).unwrap()
    }

    #[test]
    fn the_next_hop_is_the_gateway_or_else_the_target() {
        let config = config(
            "{address: 172.18.0.18/16}, {address: 'fd00:18::18/64'}",
            "10.109.201.193, 'fd00:109::c1'",
        );
        let ways = Ways::of(&config, &interfaces()).unwrap();
        assert_eq!(ways.next_hops(), "10.16.0.1 and fd00:109::c1");
        assert_eq!(ways.v4.unwrap().own, IpAddr::from([10, 16, 0, 2]));
        assert_eq!((ways.external.index, ways.cluster.mac), (3, [2, 0, 0, 0, 0, 2]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let config = config("{address: 172.18.0.18/16}", "10.109.201.193");
        let reason = |change: fn(&mut Interfaces)| {
            let mut interfaces = interfaces();
            change(&mut interfaces);
            Ways::of(&config, &interfaces).unwrap_err()
        };
        assert_eq!(reason(|interfaces| interfaces.external = None), "net1 is missing or down");
        let down = |interfaces: &mut Interfaces| interfaces.cluster.as_mut().unwrap().running = false;
        assert_eq!(reason(down), "eth0 is missing or down");
        let bare = |interfaces: &mut Interfaces| interfaces.cluster.as_mut().unwrap().addresses.clear();
        assert!(reason(bare).contains("no next hop"));
    }

    #[test]
    fn only_xdp_that_was_asked_for_is_missed() {
        let attach = |wanted, mode| Attach { wanted, mode, reason: "net1 is a macvlan".to_owned() };
        assert_eq!(problem(&attach(config::Attach::Auto, AttachMode::Tc)), None);
        assert_eq!(problem(&attach(config::Attach::Xdp, AttachMode::Xdp)), None);
        let missed = problem(&attach(config::Attach::Xdp, AttachMode::Tc)).unwrap();
        assert!(missed.contains("gateway.attach") && missed.contains("net1 is a macvlan"), "{missed}");
    }
}
