//! Whose a VIP and port are: for readers that have the configuration but not the daemon's state.

use std::{collections::HashMap, net::IpAddr};

use super::desired::PortName;
use crate::config::Config;

/// Names of service ports, by what clients address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(HashMap<(IpAddr, u16, u8), PortName>);

impl Names {
    /// The names in a configuration.
    pub fn new(config: &Config) -> Self {
        let mut names = HashMap::new();
        for service in &config.services {
            for port in &service.ports {
                let name = PortName {
                    service: service.name.clone(),
                    port_name: port.name.clone(),
                    protocol: port.protocol.number(),
                    port: port.port,
                };
                for vip in &service.vips {
                    names
                        .entry((vip.address.addr(), name.port, name.protocol))
                        .or_insert_with(|| name.clone());
                }
            }
        }
        Self(names)
    }

    /// Whose `vip` and `port` are; `protocol` is an IP protocol number.
    pub fn get(&self, vip: IpAddr, port: u16, protocol: u8) -> Option<&PortName> {
        self.0.get(&(vip, port, protocol))
    }
}
