//! The gateway's configuration file for one Service. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use sluice_gateway::config::limits::DEFAULT_MAX_FLOWS;
use sluice_gateway::config::{self, Protocol, file};

use crate::Refusal;
use crate::api::{annotation, describe_service, namespaced_name};
use crate::ipam::{Choice, Family};

/// The file that serves `service` on `vips`, one of each family that it is served on, by its ClusterIPs.
///
/// `max_flows` is written where it is not the gateway's own default.
///
/// A target's port is the Service's `port`: kube-proxy turns it into the pods' `targetPort` behind the ClusterIP.
///
/// # Errors
/// A port, protocol or source range that the gateway does not take, or a file that it would refuse as a whole.
pub fn gateway_file(
    service: &Service,
    vips: &[Choice],
    cluster_ips: &[IpAddr],
    max_flows: u32,
) -> Result<file::File, Refusal> {
    let object = describe_service(service);
    let families: Vec<Family> = vips.iter().map(|vip| Family::of(vip.address.addr())).collect();
    let file = file::File {
        version: file::File::VERSION,
        gateway: (max_flows != DEFAULT_MAX_FLOWS)
            .then(|| file::Gateway { max_flows: Some(max_flows), ..file::Gateway::default() }),
        services: vec![file::Service {
            name: namespaced_name(&service.metadata),
            vips: vips.iter().map(write_vip).collect(),
            targets: cluster_ips
                .iter()
                .filter(|ip| families.contains(&Family::of(**ip)))
                .map(IpAddr::to_string)
                .collect(),
            ports: ports(service, &object)?,
            snat: Vec::new(),
            source_ranges: source_ranges(service, &object, &families)?,
        }],
    };
    let refuse = |fault: String| {
        Refusal::new(&object, "spec", format!("the gateway would refuse it: {fault}"), "change the Service")
    };
    let text = file.to_yaml().map_err(|fault| refuse(fault.to_string()))?;
    config::parse("gateway.yaml", &text).map_err(|fault| refuse(fault.to_string()))?;
    Ok(file)
}

/// Whether `service` can have a file, served on `families`, whatever its addresses will be: so that none is given to one that cannot.
///
/// # Errors
/// As of [`gateway_file`].
pub fn check(service: &Service, families: &[Family]) -> Result<(), Refusal> {
    let object = describe_service(service);
    ports(service, &object)?;
    source_ranges(service, &object, families).map(drop)
}

fn write_vip(vip: &Choice) -> file::Vip {
    file::Vip { address: vip.address.to_string(), gateway: vip.gateway.map(|gateway| gateway.to_string()) }
}

fn ports(service: &Service, object: &str) -> Result<Vec<file::Port>, Refusal> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() {
        return Err(Refusal::new(object, "spec.ports", "no port", "add the ports that clients use"));
    }
    ports.iter().enumerate().map(|(index, port)| write_port(object, index, port)).collect()
}

fn write_port(object: &str, index: usize, port: &ServicePort) -> Result<file::Port, Refusal> {
    let at = |field: &str| format!("spec.ports[{index}].{field}");
    let number = u16::try_from(port.port).ok().filter(|port| *port != 0).ok_or_else(|| {
        Refusal::new(
            object,
            at("port"),
            format!("{} is not a port", port.port),
            "use a number from 1 to 65535",
        )
    })?;
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let known =
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|known| known.name() == protocol);
    let protocol = known.ok_or_else(|| {
        Refusal::new(object, at("protocol"), format!("`{protocol}` is not supported"), "use TCP, UDP or SCTP")
    })?;
    Ok(file::Port { name: port.name.clone(), protocol, port: number, target_port: Some(number) })
}

/// The ranges of the families that are served, as kube-proxy reads them: bits beyond the prefix length do not count, and
/// where a range of one family is given, nobody else of that or the other family may connect.
fn source_ranges(service: &Service, object: &str, families: &[Family]) -> Result<Vec<String>, Refusal> {
    let (field, texts) = written_ranges(service);
    let mut ranges: Vec<IpNet> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let range: IpNet = text.parse().map_err(|_| {
            Refusal::new(
                object,
                format!("{field}[{index}]"),
                format!("`{text}` is not a network"),
                "write a network such as 203.0.113.0/24",
            )
        })?;
        if families.contains(&Family::of(range.addr())) {
            ranges.push(range.trunc());
        }
    }
    // An empty list means everybody: it must not come from a list that meant nobody.
    if ranges.is_empty() && !texts.is_empty() {
        let fault = format!("no network of a family that is served among {}", texts.join(", "));
        return Err(Refusal::new(object, field, fault, "add one, or remove the field to let everybody in"));
    }
    Ok(ranges.iter().map(IpNet::to_string).collect())
}

/// The field that says who may connect, and what it says: the annotation is what there was before the field, and counts where that is empty.
fn written_ranges(service: &Service) -> (String, Vec<&str>) {
    let spec = service.spec.as_ref().and_then(|spec| spec.load_balancer_source_ranges.as_deref());
    let texts: Vec<&str> = spec.unwrap_or_default().iter().map(|text| text.trim()).collect();
    if !texts.is_empty() {
        return ("spec.loadBalancerSourceRanges".to_owned(), texts);
    }
    let key = annotation::SOURCE_RANGES;
    let parts = annotation::get(service, key).unwrap_or_default().split(',').map(str::trim);
    (format!("metadata.annotations[{key}]"), parts.filter(|part| !part.is_empty()).collect())
}
