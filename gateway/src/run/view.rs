//! The network as `status` shows it.

use crate::config::{Config, Gateway};
use crate::net::Interfaces;
use crate::status::{Interface, Role, Vip};

/// Both interfaces, whether they exist or not.
pub fn interfaces(gateway: &Gateway, interfaces: &Interfaces) -> Vec<Interface> {
    [
        (Role::External, &gateway.external_interface, &interfaces.external),
        (Role::Cluster, &gateway.cluster_interface, &interfaces.cluster),
    ]
    .map(|(role, name, found)| Interface {
        role,
        name: name.clone(),
        ifindex: found.as_ref().map(|interface| interface.index),
        up: found.as_ref().is_some_and(|interface| interface.running),
        mtu: found.as_ref().map_or(0, |interface| interface.mtu),
        addresses: found.as_ref().map_or_else(Vec::new, |interface| interface.addresses.clone()),
    })
    .into()
}

/// Every VIP, each once.
pub fn vips(config: &Config, interfaces: &Interfaces) -> Vec<Vip> {
    let external = interfaces.external.as_ref();
    let mut vips: Vec<Vip> = Vec::new();
    for vip in config.services.iter().flat_map(|service| &service.vips) {
        let address = vip.address.addr();
        if vips.iter().all(|seen| seen.address.addr() != address) {
            let present =
                external.is_some_and(|external| external.addresses.iter().any(|a| a.addr() == address));
            vips.push(Vip { address: vip.address, gateway: vip.gateway, present });
        }
    }
    vips
}
