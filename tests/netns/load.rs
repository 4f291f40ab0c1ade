//! Traffic that goes on while something happens.

use std::net::SocketAddr;

use sluice_tests::addresses::Family;
use sluice_tests::netns::Netns;
use sluice_tests::peers::{Datagrams, Streams};
use sluice_tests::script;
use sluice_tests::topology::Topology;

/// Connections from both places in both families.
pub struct Load {
    streams: Vec<Streams>,
    datagrams: Vec<Datagrams>,
}

impl Load {
    /// Starts it from a client on the link (IPv4) and one behind the router (IPv6).
    pub fn start(topology: &Topology) -> Self {
        let places: [(&Netns, Family); 2] = [(&topology.client, Family::V4), (&topology.far, Family::V6)];
        let to = |family: Family, port| SocketAddr::new(family.plan().vip, port);
        let streams =
            places.map(|(netns, family)| Streams::start(netns, to(family, script::TCP), 40).unwrap());
        let datagrams =
            places.map(|(netns, family)| Datagrams::start(netns, to(family, script::UDP)).unwrap());
        Self { streams: streams.into(), datagrams: datagrams.into() }
    }

    /// Waits for three more rounds of each stream.
    pub fn goes_on(&self) {
        self.streams.iter().for_each(|streams| streams.wait_rounds(3).unwrap());
    }

    /// Ends it; every byte must have come back.
    pub fn finish(self) {
        for datagrams in self.datagrams {
            assert!(datagrams.finish().unwrap() > 0);
        }
        for streams in self.streams {
            streams.finish().unwrap();
        }
    }
}
