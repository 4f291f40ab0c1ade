//! Who takes part: Sluice, and what it is compared with.

use anyhow::{Result, bail};
use sluice_gateway::config::Attach;
use sluice_tests::gateway::{FORWARDING, GatewayUnderTest as _, Iptables, Nftables, Sluice, Spec, route};
use sluice_tests::topology::Topology;
use sluice_tests::wait::{PATIENCE, until};

use crate::traffic::Translation;

/// A way through the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Sluice's tc programs.
    SluiceTc,
    /// Sluice's XDP programs.
    SluiceXdp,
    /// The seed's rules.
    IptablesLegacy,
    /// The seed's rules by nftables' interface.
    IptablesNft,
    /// Native nftables with a map.
    Nftables,
    /// The kernel's routing, without any NAT.
    Routing,
    /// A tc program that redirects, and does nothing else.
    RedirectTc,
    /// A tc program that redirects to a neighbour: the kernel looks for it, and writes the frame's addresses. IPv4.
    NeighbourTc,
    /// A tc program that redirects to the other end of a veth, where the packet is received at once.
    PeerTc,
    /// A tc program that finds the flow in a table of the kernel's, and redirects to the other end of a veth. IPv4.
    LookupTc,
    /// A tc program that finds the flow in a table of its own, and redirects to the other end of a veth. IPv4.
    TableTc,
    /// A tc program that writes to a cache line of the flow, and redirects to the other end of a veth. IPv4.
    LineTc,
    /// An XDP program that redirects, and does nothing else.
    RedirectXdp,
    /// An XDP program that redirects by a device map, as Sluice does, and does nothing else.
    DeviceXdp,
    /// An XDP program that finds the flow in a table of the kernel's, and redirects by a device map. IPv4.
    LookupXdp,
    /// An XDP program that finds the flow in a table of its own, and redirects by a device map. IPv4.
    TableXdp,
    /// An XDP program that writes to a cache line of the flow, and redirects by a device map. IPv4.
    LineXdp,
    /// An XDP program that drops: the generator's own limit.
    DropXdp,
}

/// What serves in a pod, for as long as it is held.
pub enum Serving {
    /// The gateway's process.
    Sluice(Box<Sluice>),
    /// Rules in the kernel, or a program of the benches.
    Kernel,
}

impl Contender {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SluiceTc => "sluice tc",
            Self::SluiceXdp => "sluice XDP",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::Nftables => "nftables map",
            Self::Routing => "routing",
            Self::RedirectTc => "tc redirect",
            Self::NeighbourTc => "tc to neighbour",
            Self::PeerTc => "tc to peer",
            Self::LookupTc => "tc lookup",
            Self::TableTc => "tc own table",
            Self::LineTc => "tc cache line",
            Self::RedirectXdp => "XDP redirect",
            Self::DeviceXdp => "XDP by device map",
            Self::LookupXdp => "XDP lookup",
            Self::TableXdp => "XDP own table",
            Self::LineXdp => "XDP cache line",
            Self::DropXdp => "XDP drop",
        }
    }

    /// What it does with a packet.
    pub const fn translation(self) -> Translation {
        match self {
            Self::SluiceTc | Self::SluiceXdp | Self::IptablesLegacy | Self::IptablesNft | Self::Nftables => {
                Translation::Full
            }
            Self::Routing => Translation::Routed,
            _ => Translation::None,
        }
    }

    /// Whether an XDP program on `net1` sees its packets.
    pub const fn is_xdp(self) -> bool {
        matches!(
            self,
            Self::SluiceXdp
                | Self::RedirectXdp
                | Self::DeviceXdp
                | Self::LookupXdp
                | Self::TableXdp
                | Self::LineXdp
                | Self::DropXdp
        )
    }

    /// The benches' own program on `net1` that takes the gateway's place.
    pub const fn program(self) -> Option<&'static str> {
        match self {
            Self::RedirectTc => Some("redirect_tc"),
            Self::NeighbourTc => Some("neighbour_tc"),
            Self::PeerTc => Some("peer_tc"),
            Self::LookupTc => Some("lookup_tc"),
            Self::TableTc => Some("search_tc"),
            Self::LineTc => Some("line_tc"),
            Self::RedirectXdp => Some("redirect_xdp"),
            Self::DeviceXdp => Some("device_xdp"),
            Self::LookupXdp => Some("lookup_xdp"),
            Self::TableXdp => Some("search_xdp"),
            Self::LineXdp => Some("line_xdp"),
            Self::DropXdp => Some("sink_xdp"),
            _ => None,
        }
    }

    /// Whether that program remembers flows.
    pub const fn remembers(self) -> bool {
        matches!(
            self,
            Self::LookupTc | Self::TableTc | Self::LineTc | Self::LookupXdp | Self::TableXdp | Self::LineXdp
        )
    }

    /// Lets it serve.
    ///
    /// # Errors
    /// When it does not.
    pub fn serve(self, topology: &Topology, spec: &Spec) -> Result<Serving> {
        match self {
            Self::SluiceTc | Self::SluiceXdp => {
                let attach = if self == Self::SluiceXdp { Attach::Xdp } else { Attach::Tc };
                let mut sluice = Sluice::new(topology)?;
                sluice.serve(topology, &Spec { attach: Some(attach), ..spec.clone() })?;
                until("the way to the targets is chosen", PATIENCE, || {
                    Ok(sluice.status()?.handover.filter(|handover| handover.used.is_some()))
                })?;
                return Ok(Serving::Sluice(Box::new(sluice)));
            }
            Self::IptablesLegacy => Iptables::legacy().serve(topology, spec)?,
            Self::IptablesNft => Iptables::nft().serve(topology, spec)?,
            Self::Nftables => Nftables.serve(topology, spec)?,
            Self::Routing => {
                topology.pod.sysctl(FORWARDING)?;
                for &family in topology.families() {
                    route(topology, spec, family)?;
                }
            }
            _ => {}
        }
        if self.has_connection_table() {
            topology.pod.sysctl(PATIENT)?;
        }
        Ok(Serving::Kernel)
    }

    /// Whether the kernel keeps its connections.
    pub const fn has_connection_table(self) -> bool {
        matches!(self, Self::IptablesLegacy | Self::IptablesNft | Self::Nftables)
    }
}

/// Flows do not expire between two rounds.
pub const UDP_TIMEOUT: u32 = 3600;
const PATIENT: &[(&str, &str)] = &[
    ("net/netfilter/nf_conntrack_udp_timeout", "3600"),
    ("net/netfilter/nf_conntrack_udp_timeout_stream", "3600"),
];

impl Serving {
    /// The gateway.
    ///
    /// # Errors
    /// If it is something else.
    pub fn sluice(&mut self) -> Result<&mut Sluice> {
        match self {
            Self::Sluice(sluice) => Ok(sluice),
            Self::Kernel => bail!("no gateway of ours serves here"),
        }
    }
}
