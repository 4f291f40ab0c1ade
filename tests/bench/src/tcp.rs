//! Contenders between real TCP clients and servers, with the stack of a client and of a backend.

use std::net::IpAddr;

use anyhow::{Context, Result};
use sluice_tests::addresses::Family;
use sluice_tests::gateway::{Port, Service, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::netns::Netns;
use sluice_tests::topology::{External, Topology};

use crate::contender::{Contender, Serving};
use crate::traffic::Translation;

/// A network with one contender in its pod; the first backend has the ClusterIP.
pub struct Path {
    contender: Contender,
    topology: Topology,
    _serving: Serving,
}

impl Path {
    /// The first port of VIP and ClusterIP.
    pub const FIRST_PORT: u16 = 5201;

    /// Builds the network with a macvlan, and lets the contender serve so many TCP ports.
    ///
    /// # Errors
    /// If something of it cannot be had.
    pub fn new(contender: Contender, ports: u16) -> Result<Self> {
        let topology = Topology::builder().external(contender.external()).unproxied().build()?;
        let port = |index| Port::new(Protocol::Tcp, Self::FIRST_PORT + index);
        let service = Service::new(&(0..ports).map(port).collect::<Vec<_>>());
        let spec = Spec { services: vec![service], ..Spec::default() };
        let what = || format!("preparing {}", contender.name());
        let serving = contender.serve(&topology, &spec).with_context(what)?;
        if contender.translation() == Translation::Routed {
            let plan = Family::V4.plan();
            let there = format!("route add {} via {}", plan.cluster_ip, plan.vip);
            topology.client.feed("ip", &["-batch", "-"], &there)?;
            let back = format!("route add {} via {}", plan.external_subnet(), plan.pod);
            topology.node.feed("ip", &["-batch", "-"], &back)?;
        }
        Ok(Self { contender, topology, _serving: serving })
    }

    /// Who serves.
    pub const fn contender(&self) -> Contender {
        self.contender
    }

    /// Whom clients connect to: without NAT the target itself.
    pub fn address(&self) -> IpAddr {
        let plan = Family::V4.plan();
        if self.contender.translation() == Translation::Full { plan.vip } else { plan.cluster_ip }
    }

    /// Where the client is.
    pub const fn client(&self) -> &Netns {
        &self.topology.client
    }

    /// Where the server is.
    pub const fn server(&self) -> &Netns {
        &self.topology.backends[0]
    }
}

impl Contender {
    /// The kind of `net1` that it is for, where it is not asked for another.
    pub const fn external(self) -> External {
        if self.is_xdp() { External::Veth } else { External::Macvlan }
    }
}
