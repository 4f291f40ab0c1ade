//! What a gateway file may say, what is refused, and in which words.

mod documentation;
mod refusals;
mod roundtrip;
mod shape;

use super::{Attach, Config, Protocol, Timeouts, parse};

const MINIMAL: &str = "\
version: 1
services:
- name: default/test-service
  vips:
  - address: 172.18.0.18/16
  targets: [10.109.201.193]
  ports:
  - port: 80
";

#[test]
fn the_smallest_file_gets_the_defaults() {
    let config = parse("gateway.yaml", MINIMAL).unwrap();
    let gateway = config.gateway;
    assert_eq!((gateway.external_interface.as_str(), gateway.cluster_interface.as_str()), ("net1", "eth0"));
    assert_eq!((gateway.table, gateway.max_flows), (100, 262_144));
    assert_eq!((gateway.icmp_errors_per_second, gateway.admin_port), (1_000, 9_808));
    assert_eq!(gateway.attach, Attach::Auto);
    assert_eq!(gateway.timeouts, Timeouts::default());
    assert!(gateway.cluster_gateways.is_empty());
    let [service] = config.services.as_slice() else { panic!("{:?}", config.services) };
    assert_eq!(service.name, "default/test-service");
    assert_eq!(service.vips[0].address, "172.18.0.18/16".parse().unwrap());
    assert_eq!(service.vips[0].gateway, None);
    assert_eq!(service.targets, ["10.109.201.193".parse::<std::net::IpAddr>().unwrap()]);
    let port = &service.ports[0];
    assert_eq!(
        (port.name.as_deref(), port.protocol, port.port, port.target_port),
        (None, Protocol::Tcp, 80, 80)
    );
    assert!(service.snat.is_empty() && service.source_ranges.is_empty());
}

#[test]
fn the_committed_example_is_read_and_shows_the_defaults() {
    let text = include_str!("../../../../docs/gateway.example.yaml");
    let config = parse("docs/gateway.example.yaml", text).unwrap();
    assert_eq!(config.gateway, parse("gateway.yaml", MINIMAL).unwrap().gateway);
    assert_eq!(config.services.len(), 2);
    assert_eq!(config.services[1].vips[1].gateway, Some("fe80::1".parse().unwrap()));
    assert_eq!(config.services[1].source_ranges.len(), 3);
}

#[test]
fn a_gateway_may_serve_nothing() {
    assert_eq!(parse("f", "version: 1\nservices: []\n").unwrap().services, []);
}

#[test]
fn commented_out_settings_leave_an_empty_section() {
    let config = parse("f", "version: 1\ngateway:\n  # table: 101\nservices: []\n").unwrap();
    assert_eq!(config.gateway.table, 100);
}

#[test]
fn flows_are_rounded_up_to_a_power_of_two() {
    let flows = |number: u32| {
        let text = format!("version: 1\ngateway: {{maxFlows: {number}}}\nservices: []\n");
        parse("f", &text).unwrap().gateway.max_flows
    };
    assert_eq!((flows(64), flows(65), flows(300_000), flows(1 << 24)), (64, 128, 524_288, 1 << 24));
}

#[test]
fn repeated_source_ranges_count_once() {
    let text = format!("{MINIMAL}  sourceRanges: [10.0.0.0/8, 192.0.2.0/24, 10.0.0.0/8]\n");
    let ranges = parse("f", &text).unwrap().services.remove(0).source_ranges;
    assert_eq!(ranges, ["10.0.0.0/8".parse().unwrap(), "192.0.2.0/24".parse::<ipnet::IpNet>().unwrap()]);
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway.schema.json");
    let schema = super::schema();
    if std::env::var_os("SLUICE_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    // As values: the order of keys depends on features that other crates of a build ask of serde_json.
    let read = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    assert!(
        read(&std::fs::read_to_string(path).unwrap()) == read(&schema),
        "docs/gateway.schema.json is out of date: run `SLUICE_WRITE_SCHEMA=1 cargo test -p sluice-gateway --lib schema`"
    );
}

/// The fields that a schema knows are those that the reader takes.
#[test]
fn the_schema_refuses_unknown_fields_too() {
    let schema: serde_json::Value = serde_json::from_str(&super::schema()).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let objects = definitions.values().chain([&schema]).filter(|schema| schema["type"] == "object");
    let closed =
        objects.inspect(|object| assert_eq!(object["additionalProperties"], false, "{object}")).count();
    assert_eq!(closed, 6, "File, Gateway, Timeouts, Service, Vip, Port");
}

fn config(text: &str) -> Config {
    parse("gateway.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
