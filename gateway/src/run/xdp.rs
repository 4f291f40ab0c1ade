//! Whether the XDP programs run on the external device: where its driver can, and only while what they send is seen to arrive.
//!
//! Between a redirect and the wire nobody reports a loss: a veth, for one, takes redirected frames only if its other end has GRO or an
//! XDP program. So before XDP is used, and every few seconds from then on, the next hop on the cluster link is asked for
//! its Ethernet address with frames sent in this very way. Its answers prove the way and are the address. They count for a short time:
//! without a daemon that asks again, the programs soon leave everything to tc.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sluice_gateway_ebpf::family::{V4, V6};
use sluice_gateway_ebpf::maps::Hop;

use super::ways::{self, By, NextHop, TRIES, Ways};
use crate::bpf::{self, DataPath, LoaderFamily};
use crate::config::{self, Config};
use crate::net::Interfaces;
use crate::status::{Attach, AttachMode};
use crate::tables::IpBytes;

/// A way that works is tried again this long after it was.
const RENEW: Duration = Duration::from_secs(5);
/// One that does not, after this long, and then twice as long, and so on ...
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// ... up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);

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
        Self { lease: ways::lease(resync), ways: None, state: State::New }
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
        let ask = |hop: Option<NextHop>| hop.map_or(Ok(None), |hop| hop.ask(ways, By::Xdp, tries));
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
        let until = ways::end_of(self.lease);
        put::<V4>(data_path, ways, ways.v4, v4, until)?;
        put::<V6>(data_path, ways, ways.v6, v6, until)?;
        Ok(Ok(()))
    }
}

/// Brings the programs to the external device; the reason, if it has none to take them.
fn attach(ways: &Ways, data_path: &mut DataPath) -> Result<(), String> {
    let external = &ways.external.name;
    data_path.attach_xdp(external, &ways.cluster.name).map_err(|error| {
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

/// Tells the program of family `F` of a next hop that has answered, or that there is none.
fn put<F: LoaderFamily<Addr: IpBytes>>(
    data_path: &mut DataPath,
    ways: &Ways,
    hop: Option<NextHop>,
    answer: Option<[u8; 6]>,
    until: u32,
) -> Result<()> {
    let told = hop.zip(answer).and_then(|(hop, mac)| hop.told::<F>(ways, mac, until));
    let hop = told.map(|told| Hop { external: ways.external.mac, ..told });
    data_path.set_hop::<F>(hop.unwrap_or_default()).context("telling XDP the next hop")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_xdp_that_was_asked_for_is_missed() {
        let attach = |wanted, mode| Attach { wanted, mode, reason: "net1 is a macvlan".to_owned() };
        assert_eq!(problem(&attach(config::Attach::Auto, AttachMode::Tc)), None);
        assert_eq!(problem(&attach(config::Attach::Xdp, AttachMode::Xdp)), None);
        let missed = problem(&attach(config::Attach::Xdp, AttachMode::Tc)).unwrap();
        assert!(missed.contains("gateway.attach") && missed.contains("net1 is a macvlan"), "{missed}");
    }
}
