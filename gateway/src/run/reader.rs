//! Reading counters and attachments, with handles of its own: a pass under way delays no answer.

use std::fmt;

use anyhow::{Context, Result};

use crate::bpf::pins::Pins;
use crate::bpf::{self, Attachment, DataPath, Devices, Families, Hook, Maps};
use crate::config::Config;
use crate::status::{Drop, FlowTable, Program, ServicePort};
use crate::tables::counters::{self, PortCounters};
use crate::tables::sweep::Report;
use crate::tables::{Names, PortName, protocol_name};

/// Reads one gateway's maps and asks its devices; nothing, while nothing is loaded.
#[derive(Default)]
pub struct Reader(Option<Open>);

struct Open {
    pins: Pins,
    devices: Devices,
    families: Families,
    hook: Hook,
    maps: Maps,
}

/// What a [`Reader`] read.
#[derive(Debug, Default)]
pub struct Reading {
    /// The programs and whether they are attached.
    pub programs: Vec<Program>,
    /// Service ports with their counters.
    pub services: Vec<ServicePort>,
    /// How full the flow tables are.
    pub flow_tables: Vec<FlowTable>,
    /// Drops by reason.
    pub drops: Vec<Drop>,
    /// Kernel memory of all maps, bytes.
    pub map_memory: u64,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Reader {
    /// Opens the pinned maps of a data path that this process has loaded.
    pub fn open(pins: &Pins, devices: Devices, data_path: &DataPath) -> Result<Self> {
        Self::pinned(pins, devices, data_path.families(), data_path.hook())
    }

    /// Opens the pinned maps of whoever loaded them.
    pub fn pinned(pins: &Pins, devices: Devices, families: Families, hook: Hook) -> Result<Self> {
        let maps = Maps::open_pinned(&pins.dir()).context("opening the maps to read them")?;
        Ok(Self(Some(Open { pins: pins.clone(), devices, families, hook, maps })))
    }

    /// The programs that the families in use need, and whether the devices run them.
    pub fn programs(&self) -> Result<Vec<Program>, bpf::Error> {
        let Some(open) = &self.0 else { return Ok(Vec::new()) };
        let attachments = bpf::attachments(&open.pins, open.families, &open.devices, open.hook)?;
        Ok(attachments.into_iter().map(program).collect())
    }

    /// Everything; service ports are named by `config`, and flows counted by the sweep's last `report`, or else one by one. What
    /// cannot be read is left out and told.
    pub fn read(&self, config: Option<&Config>, report: Option<&Report>) -> Reading {
        let mut reading = Reading::default();
        let Some(open) = &self.0 else { return reading };
        let problems = &mut reading.problems;
        reading.programs = or_told(self.programs(), problems);
        reading.services = services(or_told(counters::ports(&open.maps), problems), config);
        reading.drops = or_told(counters::drops(&open.maps), problems);
        reading.flow_tables = or_told(counters::flow_tables(&open.maps, report), problems);
        let maps = or_told(bpf::map_use(&open.pins, open.families), problems);
        reading.map_memory = maps.iter().map(|map| map.memory).sum();
        reading
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("pins", &self.0.as_ref().map(|open| open.pins.dir()))
            .finish_non_exhaustive()
    }
}

fn or_told<T: Default>(result: Result<T, impl Into<anyhow::Error>>, problems: &mut Vec<String>) -> T {
    result.unwrap_or_else(|error| {
        problems.push(format!("{:#}", error.into()));
        T::default()
    })
}

fn program(attachment: Attachment) -> Program {
    Program {
        name: attachment.program.to_owned(),
        interface: attachment.device,
        hook: attachment.direction.name().to_owned(),
        mode: attachment.mode.to_owned(),
        attached: attachment.program_id.is_some(),
    }
}

/// In the order of the file. Without a file they have no names; with one, those that it does not name are left out: an edit is
/// just making or removing them.
fn services(ports: Vec<PortCounters>, config: Option<&Config>) -> Vec<ServicePort> {
    let Some(config) = config else {
        return ports.into_iter().map(|port| service(port, None)).collect();
    };
    let names = Names::new(config);
    let named = ports.into_iter().filter_map(|port| {
        let name = port.name(&names)?.clone();
        let order = config.services.iter().position(|service| service.name == name.service);
        Some((order, service(port, Some(name))))
    });
    let mut services: Vec<_> = named.collect();
    services.sort_by(|(a, first), (b, second)| {
        (a, first.port, &first.protocol).cmp(&(b, second.port, &second.protocol))
    });
    services.into_iter().map(|(_, service)| service).collect()
}

fn service(port: PortCounters, name: Option<PortName>) -> ServicePort {
    let (service, port_name) =
        name.map_or_else(|| (UNNAMED.to_owned(), None), |name| (name.service, name.port_name));
    ServicePort {
        service,
        port_name,
        vips: port.vips.iter().map(std::net::SocketAddr::ip).collect(),
        protocol: protocol_name(port.protocol).to_owned(),
        port: port.vips.first().map_or(0, std::net::SocketAddr::port),
        targets: port.targets,
        counters: port.counters,
    }
}

/// Stands for the name of a service port that no configuration names: the maps hold none.
const UNNAMED: &str = "(unnamed)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::status::Counters;

    fn port(id: u32, vip: &str, protocol: u8) -> PortCounters {
        let vips = vec![vip.parse().unwrap()];
        PortCounters { id, protocol, vips, targets: vec![], counters: Counters::default() }
    }

    #[test]
    fn services_stand_in_the_order_of_the_file_and_under_its_names() {
        let service = |name: &str, vip: &str, targets: &str| {
            format!(
                "- {{name: {name}, vips: [{{address: {vip}/16}}], targets: [{targets}], ports: [{{port: 80}}, {{port: 53, protocol: UDP}}]}}\n"
            )
        };
        let text = "version: 1\nservices:\n".to_owned()
            + &service("default/b", "172.18.0.2", "10.96.0.2")
            + &service("default/a", "172.18.0.1", "10.96.0.1");
        let config = config::parse("test", &text).unwrap();
        let ports = || {
            vec![
                port(1, "172.18.0.1:80", 6),
                port(2, "172.18.0.2:80", 6),
                port(3, "172.18.0.2:53", 17),
                port(4, "172.18.0.2:9999", 6),
            ]
        };
        let named: Vec<_> =
            services(ports(), Some(&config)).into_iter().map(|port| (port.service, port.port)).collect();
        let want = [("default/b", 53), ("default/b", 80), ("default/a", 80)];
        assert_eq!(named, want.map(|(name, port)| (name.to_owned(), port)));
        assert!(services(ports(), None).iter().all(|port| port.service == UNNAMED));
    }
}
