//! From a [`File`] to a [`Config`]: every rule of meaning, all faults reported at once.

mod gateway;
mod service;
mod totals;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;

use super::address;
use super::error::Problem;
use super::file::File;
use super::model::{Config, Protocol, Service, Vip};

/// Checks `file`.
///
/// # Errors
/// Every fault, in the order of the fields as far as it concerns one field, and then those between services. Lines are
/// not known here.
pub(super) fn check(file: &File) -> Result<Config, Vec<Problem>> {
    let mut faults = Faults::default();
    let gateway = gateway::check(&mut faults, file.gateway.as_ref());
    let services: Vec<Service> = file
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| service::check(&mut faults, &Path::root("services").item(index), service))
        .collect();
    // What a service refers to is only compared once each service is right by itself: one mistake, one message.
    if faults.0.is_empty() {
        between_services(&mut faults, &services);
    }
    if faults.0.is_empty() { Ok(Config { gateway, services }) } else { Err(faults.0) }
}

/// Rules that hold over all services.
fn between_services(faults: &mut Faults, services: &[Service]) {
    let mut names: HashMap<&str, Path> = HashMap::new();
    let mut vips: HashMap<IpAddr, (Vip, Path)> = HashMap::new();
    let mut ports: HashMap<(IpAddr, u16, Protocol), Path> = HashMap::new();
    let mut totals = totals::Totals::default();
    for (index, service) in services.iter().enumerate() {
        let at = Path::root("services").item(index);
        if let Some(first) = names.insert(&service.name, at.clone()) {
            faults.add(
                &at.field("name"),
                format!("`{}` is already the name of {first}", service.name),
                "give each service a name of its own",
            );
        }
        for (index, vip) in service.vips.iter().enumerate() {
            let here = at.field("vips").item(index);
            let (known, first) = vips.entry(vip.address.addr()).or_insert_with(|| (*vip, here.clone()));
            if *known != *vip {
                faults.add(
                    &here,
                    format!("{} has another prefix length or gateway in {first}", vip.address.addr()),
                    "give one VIP the same subnet and gateway everywhere",
                );
            }
            for (index, port) in service.ports.iter().enumerate() {
                let at = at.field("ports").item(index);
                let key = (vip.address.addr(), port.port, port.protocol);
                if let Some(first) = ports.get(&key) {
                    faults.add(
                        &at,
                        format!(
                            "{} {} of {} is already served by {first}",
                            port.protocol.name(),
                            port.port,
                            key.0
                        ),
                        "serve each port of a VIP once",
                    );
                } else {
                    ports.insert(key, at);
                }
            }
        }
        totals.add(faults, &at, service);
    }
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Problem>);

impl Faults {
    fn add(&mut self, at: &Path, fault: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { line: None, field: at.0.clone(), fault: fault.into(), fix: fix.into() });
    }

    /// `value` if it is within `bounds`; complains and returns the lower bound otherwise.
    fn within(&mut self, at: &Path, value: u32, bounds: &std::ops::RangeInclusive<u32>) -> u32 {
        if bounds.contains(&value) {
            return value;
        }
        self.add(
            at,
            format!("{value} is out of bounds"),
            format!("use a number from {} to {}", bounds.start(), bounds.end()),
        );
        *bounds.start()
    }

    /// The address that `text` is, if it is one that a host can have.
    fn address(&mut self, at: &Path, text: &str) -> Option<IpAddr> {
        let Ok(parsed) = text.parse::<IpAddr>() else {
            self.add(
                at,
                format!("`{text}` is not an IP address"),
                "write an address without a prefix length, such as 10.0.0.1 or fd00::1",
            );
            return None;
        };
        if let Some(reason) = address::unusable(parsed) {
            self.add(at, format!("{parsed} is {reason}"), "use the address of one host");
            return None;
        }
        Some(parsed)
    }

    /// The addresses that `texts` are, at most one of each family.
    fn one_of_each_family(&mut self, at: &Path, texts: &[String]) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let at = at.item(index);
            let Some(new) = self.address(&at, text) else { continue };
            if addresses.iter().any(|known| known.is_ipv4() == new.is_ipv4()) {
                self.add(
                    &at,
                    format!("{new} is the second {} address", address::family(new)),
                    "keep one of each family",
                );
            } else {
                addresses.push(new);
            }
        }
        addresses
    }

    /// Complains about a name that is empty, too long or has characters that would need quoting in labels and on a terminal.
    fn name(&mut self, at: &Path, name: &str, longest: usize) {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
        if name.is_empty() || name.len() > longest || !name.bytes().all(good) {
            self.add(
                at,
                format!("`{}` is not a name", name.escape_debug()),
                format!("use 1 to {longest} of letters, digits and ._/-"),
            );
        }
    }
}

/// The path of a field, such as `services[0].ports[1].port`.
#[derive(Clone)]
struct Path(String);

impl Path {
    fn root(name: &str) -> Self {
        Self(name.to_owned())
    }
    fn field(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }
    fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
