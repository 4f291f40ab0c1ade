//! What the operations have asked for until now.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::operation::{Dnat, Eip, Fault, Operation};
use crate::config::Attach;
use crate::config::file::{File, Gateway, Port, Service, Vip};

/// Everything asked for: sorted, so that the order of operations on different things leaves no trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    eips: Vec<Eip>,
    dnats: Vec<Dnat>,
}

impl State {
    /// The state after `operation`. Doing it again changes nothing.
    ///
    /// # Errors
    /// A port of an address that was never added.
    pub fn after(mut self, operation: &Operation) -> Result<Self, Fault> {
        match operation {
            Operation::Init => {}
            Operation::EipAdd(eips) => eips.iter().for_each(|eip| self.add_eip(eip)),
            Operation::DnatAdd(dnats) => {
                for dnat in dnats {
                    if !self.eips.iter().any(|eip| eip.address.addr() == dnat.vip) {
                        return Err(Fault {
                            operation: operation.name().to_owned(),
                            field: "field 1, the VIP",
                            fault: format!("no eip-add has named {}", dnat.vip),
                            fix: "run eip-add VIP/PREFIX,GATEWAY first",
                        });
                    }
                    self.add_dnat(dnat);
                }
            }
            // Another target than the named one is a later dnat-add's, which nobody has taken back.
            Operation::DnatDel(dnats) => {
                self.dnats.retain(|kept| !dnats.iter().any(|dnat| forwards_the_same(kept, dnat)));
            }
        }
        self.eips.sort();
        self.dnats.sort();
        Ok(self)
    }

    fn add_eip(&mut self, eip: &Eip) {
        self.eips.retain(|kept| kept.address.addr() != eip.address.addr());
        self.eips.push(eip.clone());
    }

    /// A port of a VIP goes to one target: the last that was asked for, as when a Service gets another ClusterIP.
    fn add_dnat(&mut self, dnat: &Dnat) {
        self.dnats.retain(|kept| key(kept) != key(dnat));
        // The pod has one next hop of each family: the last that was told.
        if dnat.gateway.is_some() {
            let same_family = |kept: &&mut Dnat| kept.target.is_ipv4() == dnat.target.is_ipv4();
            self.dnats.iter_mut().filter(same_family).for_each(|kept| kept.gateway = dnat.gateway);
        }
        self.dnats.push(dnat.clone());
    }

    /// The addresses that have ports, and so are in the gateway file.
    pub fn served_eips(&self) -> impl Iterator<Item = &Eip> {
        self.eips.iter().filter(|eip| self.dnats.iter().any(|dnat| dnat.vip == eip.address.addr()))
    }

    /// The forwarded ports.
    pub fn dnats(&self) -> &[Dnat] {
        &self.dnats
    }

    /// What the port that `dnat` names is forwarded to.
    pub fn same_port(&self, dnat: &Dnat) -> Option<&Dnat> {
        self.dnats.iter().find(|kept| key(kept) == key(dnat))
    }

    /// The file for the loader: a service for each VIP and target.
    pub fn file(&self) -> File {
        let mut services: Vec<Service> = Vec::new();
        for eip in &self.eips {
            for dnat in self.dnats.iter().filter(|dnat| dnat.vip == eip.address.addr()) {
                let name = name(dnat);
                let port = Port {
                    name: None,
                    protocol: dnat.protocol,
                    port: dnat.port,
                    target_port: Some(dnat.target_port),
                };
                match services.iter_mut().find(|service| service.name == name) {
                    Some(service) => service.ports.push(port),
                    None => services.push(Service {
                        name,
                        vips: vec![Vip {
                            address: eip.address.to_string(),
                            gateway: eip.gateway.map(|gateway| gateway.to_string()),
                        }],
                        targets: vec![dnat.target.to_string()],
                        ports: vec![port],
                        snat: Vec::new(),
                        source_ranges: Vec::new(),
                    }),
                }
            }
        }
        let gateway = |v4: bool| {
            self.dnats.iter().filter_map(|dnat| dnat.gateway).find(|gateway| gateway.is_ipv4() == v4)
        };
        let cluster_gateways = [gateway(true), gateway(false)].into_iter().flatten().map(|it| it.to_string());
        File {
            version: File::VERSION,
            gateway: Some(Gateway {
                cluster_gateways: cluster_gateways.collect(),
                // An XDP program is held by a link, which ends with the container.
                attach: Some(Attach::Tc),
                ..Gateway::default()
            }),
            services,
        }
    }
}

/// Names are for people; a colon is not allowed in them.
fn name(dnat: &Dnat) -> String {
    format!("{}/{}", dnat.vip, dnat.target).replace(':', "-")
}

const fn key(dnat: &Dnat) -> (IpAddr, u16, u8) {
    (dnat.vip, dnat.port, dnat.protocol.number())
}

/// Do both send the same port to the same place? By which next hop does not matter.
fn forwards_the_same(one: &Dnat, other: &Dnat) -> bool {
    key(one) == key(other) && one.target == other.target && one.target_port == other.target_port
}
