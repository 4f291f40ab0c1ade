//! The ways into the cluster link, and finding out whether they are of use.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use sluice_gateway_ebpf::maps::Hop;
use tracing::info;

use crate::bpf::{LoaderFamily, redirect_by_xdp};
use crate::config::Config;
use crate::net::{Interface, Interfaces, Solicitation};
use crate::tables::{IpBytes, monotonic_seconds};

/// Frames of one try. All have to be answered: one answer might be to a question of the kernel's.
const FRAMES: u32 = 3;
/// Tries before a way that should work counts as silent.
pub const TRIES: u32 = 3;
/// How long their answers may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// What was found counts for at least this long ...
const LEASE: Duration = Duration::from_secs(30);
/// ... and for as many passes, should they be rare.
const LEASE_PASSES: u32 = 3;

/// For how long the programs may believe what a pass found, if there is one every `resync`. So a daemon that is gone takes
/// nothing with it but speed.
pub fn lease(resync: Duration) -> Duration {
    LEASE.max(resync * LEASE_PASSES)
}

/// The second of the programs' clock at which a lease ends that begins now.
pub fn end_of(lease: Duration) -> u32 {
    monotonic_seconds().wrapping_add(lease.as_secs() as u32)
}

/// The links, and the next hops on the cluster link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Where clients come from.
    pub external: End,
    /// Where targets are.
    pub cluster: End,
    /// IPv4, if anything has such a target.
    pub v4: Option<NextHop>,
    /// IPv6, if anything has such a target.
    pub v6: Option<NextHop>,
}

/// How a question is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Into the cluster link by an XDP redirect.
    Xdp,
    /// As any program sends a frame.
    Socket,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// Ethernet address.
    pub mac: [u8; 6],
}

/// A next hop on the cluster link, and our own address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The next hop.
    pub address: IpAddr,
    /// Our own address.
    pub own: IpAddr,
}

impl Ways {
    /// Finds them; else says what is missing.
    pub fn of(config: &Config, interfaces: &Interfaces) -> Result<Self, String> {
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

    /// Whether frames sent by XDP arrive: then the cluster link's other end takes packets by NAPI, for an XDP program or for GRO.
    /// `None`: a next hop did not answer frames that were sent in the usual way either, so that its silence tells nothing.
    ///
    /// # Errors
    /// Frames cannot be sent.
    pub fn takes_xdp(&self) -> Result<Option<bool>> {
        let mut all_answer = true;
        for hop in [self.v4, self.v6].into_iter().flatten() {
            if hop.ask(self, By::Xdp, 1)?.is_some() {
                return Ok(Some(true));
            }
            all_answer &= hop.ask(self, By::Socket, TRIES)?.is_some();
        }
        Ok(all_answer.then_some(false))
    }

    /// Their addresses.
    pub fn next_hops(&self) -> String {
        let addresses: Vec<_> =
            [self.v4, self.v6].into_iter().flatten().map(|hop| hop.address.to_string()).collect();
        addresses.join(" and ")
    }

    /// That frames by XDP arrive, in a sentence.
    pub fn arrives(&self) -> String {
        format!("what XDP sends into {} arrives at {}", self.cluster.name, self.next_hops())
    }

    /// That they do not.
    pub fn silent(&self) -> String {
        let cluster = &self.cluster.name;
        format!(
            "what XDP sends into {cluster} does not arrive at {}: if {cluster} is a veth, its other end needs GRO (`ethtool -K DEVICE gro on` on the node)",
            self.next_hops()
        )
    }
}

impl NextHop {
    /// Asks the next hop; its Ethernet address.
    ///
    /// # Errors
    /// Frames cannot be sent.
    pub fn ask(self, ways: &Ways, by: By, tries: u32) -> Result<Option<[u8; 6]>> {
        let End { index, mac, .. } = ways.cluster;
        let Some(question) = Solicitation::new(index, self.address, self.own, mac)? else { return Ok(None) };
        for _ in 0..tries {
            match by {
                By::Xdp => redirect_by_xdp(index, &question.frame, FRAMES)?,
                By::Socket => (0..FRAMES).try_for_each(|_| question.send())?,
            }
            if let Some(mac) = question.answers(FRAMES as usize, PATIENCE)? {
                return Ok(Some(mac));
            }
        }
        info!(next_hop = %self.address, ?by, "no answer");
        Ok(None)
    }

    /// What the programs of family `F` are told of this next hop.
    pub fn told<F: LoaderFamily<Addr: IpBytes>>(
        self,
        ways: &Ways,
        destination: [u8; 6],
        until: u32,
    ) -> Option<Hop<F::Addr>> {
        let address = F::Addr::from_ip(self.address)?;
        Some(Hop { address, until, destination, source: ways.cluster.mac, ..Hop::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn interface(name: &str, index: u32, addresses: &[&str]) -> Interface {
        Interface {
            name: name.to_owned(),
            index,
            mtu: 1500,
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            running: true,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..Interface::default()
        }
    }

    fn interfaces() -> Interfaces {
        Interfaces {
            external: Some(interface("net1", 3, &[])),
            cluster: Some(interface("eth0", 2, &["10.16.0.2/16", "fd00:16::2/64"])),
            cluster_gateways: vec!["10.16.0.1".parse().unwrap()],
            ..Interfaces::default()
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
}
