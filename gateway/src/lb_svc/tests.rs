//! The operations as Kube-OVN's controller writes them, and what becomes of any sequence of them.

use proptest::prelude::*;

use super::operation::{Fault, Operation};
use super::served::unserved;
use super::state::State;
use crate::config;
use crate::status::{Counters, ServicePort, Status, Vip};

const EIP: &str = "eip-add 172.18.0.18/16,172.18.0.1";
const EIP6: &str = "eip-add fd00:18::18/64,fd00:18::1";
const WEB: &str = "dnat-add 172.18.0.18,80,tcp,10.96.0.7,80,10.16.0.1";

fn operation(line: &str) -> Result<Operation, Fault> {
    Operation::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

fn after(lines: &[&str]) -> State {
    lines.iter().fold(State::default(), |state, line| state.after(&operation(line).unwrap()).unwrap())
}

/// The services of the file, as its text has them.
fn services(state: &State) -> Vec<String> {
    let text = state.file().to_yaml().unwrap();
    let config = config::parse("test", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let ports = |service: &config::Service| {
        let ports = service
            .ports
            .iter()
            .map(|port| format!("{} {} to {}", port.protocol.name(), port.port, port.target_port));
        ports.collect::<Vec<_>>().join(", ")
    };
    let line = |service: &config::Service| {
        let vip = &service.vips[0];
        let gateway = vip.gateway.map_or("none".to_owned(), |gateway| gateway.to_string());
        format!("{} via {gateway} -> {}: {}", vip.address, service.targets[0], ports(service))
    };
    config.services.iter().map(line).collect()
}

#[test]
fn what_kube_ovn_asks_for_is_in_the_file() {
    let state = after(&["init", EIP, WEB, "dnat-add 172.18.0.18,53,udp,10.96.0.7,5353,10.16.0.1"]);
    assert_eq!(
        services(&state),
        ["172.18.0.18/16 via 172.18.0.1 -> 10.96.0.7: UDP 53 to 5353, TCP 80 to 80"]
    );
    let text = state.file().to_yaml().unwrap();
    let config = config::parse("test", &text).unwrap();
    assert_eq!(config.gateway.cluster_gateways, ["10.16.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(config.gateway.attach, config::Attach::Tc, "what is attached outlives the container");
    assert_eq!(services(&after(&["init", EIP])), [""; 0], "an address without a port is not served");
}

/// The original looks for `dport 80` in its rules, and finds that of 8080.
#[test]
fn port_80_after_8080() {
    let state = after(&[EIP, "dnat-add 172.18.0.18,8080,tcp,10.96.0.7,8080,10.16.0.1", WEB]);
    assert_eq!(
        services(&state),
        ["172.18.0.18/16 via 172.18.0.1 -> 10.96.0.7: TCP 80 to 80, TCP 8080 to 8080"]
    );
}

#[test]
fn a_pod_with_both_families_is_told_both_addresses_at_once() {
    let both = "172.18.0.18,fd00:18::18";
    let state = after(&[
        "eip-add 172.18.0.18/16,fd00:18::18/64,172.18.0.1,fd00:18::1",
        &format!("dnat-add {both},80,tcp,10.96.0.7,80,10.16.0.1,fd00:16::1"),
        &format!("dnat-add {both},80,tcp,fd00:96::7,80,10.16.0.1,fd00:16::1"),
    ]);
    assert_eq!(
        services(&state),
        [
            "172.18.0.18/16 via 172.18.0.1 -> 10.96.0.7: TCP 80 to 80",
            "fd00:18::18/64 via fd00:18::1 -> fd00:96::7: TCP 80 to 80"
        ]
    );
    let config = config::parse("test", &state.file().to_yaml().unwrap()).unwrap();
    assert_eq!(config.gateway.cluster_gateways.len(), 2);
}

#[test]
fn another_cluster_ip_takes_the_place_of_the_one_before() {
    let moved = "dnat-add 172.18.0.18,80,tcp,10.96.0.9,80,10.16.0.1";
    let expected = ["172.18.0.18/16 via 172.18.0.1 -> 10.96.0.9: TCP 80 to 80"];
    let state = after(&[EIP, WEB, moved]);
    assert_eq!(services(&state), expected);
    let late = operation("dnat-del 172.18.0.18,80,tcp,10.96.0.7,80").unwrap();
    assert_eq!(services(&state.after(&late).unwrap()), expected, "what the late one names is gone already");
}

#[test]
fn an_unknown_next_hop_is_left_to_the_loader() {
    let state = after(&[EIP, "dnat-add 172.18.0.18,80,tcp,10.96.0.7,80,"]);
    let config = config::parse("test", &state.file().to_yaml().unwrap()).unwrap();
    assert!(config.gateway.cluster_gateways.is_empty());
}

#[test]
fn a_refusal_names_the_field_and_the_fix() {
    for (line, parts) in [
        (
            "eip-add 172.18.0.18,172.18.0.1",
            ["field 1", "`172.18.0.18` is not an address with a prefix", "VIP/PREFIX"],
        ),
        ("eip-add ,172.18.0.1", ["field 1", "missing", "VIP/PREFIX"]),
        (
            "eip-add 172.18.0.18/16,172.19.0.1",
            ["the gateway", "172.19.0.1 is in no subnet", "inside the subnet"],
        ),
        ("eip-add 172.18.0.18/16,gw", ["the gateway", "`gw`", "write one"]),
        ("eip-add 172.18.0.18/16,172.18.0.19/16,172.18.0.1", ["field 1", "of one family", "further rule"]),
        ("dnat-add 172.18.0.300,80,tcp,10.96.0.7,80,", ["field 1", "172.18.0.300", "VIP,PORT"]),
        ("dnat-add 172.18.0.18", ["the port", "missing", "VIP,PORT"]),
        ("dnat-add 172.18.0.18,0,tcp,10.96.0.7,80,", ["the port", "`0` is no port", "1 to 65535"]),
        ("dnat-add 172.18.0.18,80,icmp,10.96.0.7,80,", ["the protocol", "`icmp`", "tcp, udp or sctp"]),
        ("dnat-add 172.18.0.18,80,tcp,None,80,", ["the ClusterIP", "`None`", "give the Service a ClusterIP"]),
        ("dnat-add 172.18.0.18,80,tcp,10.96.0.7,http,", ["the target port", "`http`", "1 to 65535"]),
        ("dnat-add 172.18.0.18,80,tcp,fd00::7,80,", ["the ClusterIP", "another family", "VIP's family"]),
        (
            "dnat-add 172.18.0.18,80,sctp,10.96.0.7,81,",
            ["the target port", "80 and target port 81 differ", "SCTP"],
        ),
        ("dnat-add 172.18.0.18,80,tcp,10.96.0.7,80,me", ["the gateway of eth0", "`me`", "write one"]),
        ("snat-add 1", ["the operation", "`snat-add` is none", "dnat-del"]),
    ] {
        let text = operation(line).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{line}: {text}");
        }
    }
    let unknown = State::default().after(&operation(WEB).unwrap()).unwrap_err().to_string();
    assert!(unknown.contains("no eip-add has named 172.18.0.18"), "{unknown}");
}

fn status(state: &State) -> Status {
    let services = state.dnats().iter().map(|dnat| ServicePort {
        service: "any".to_owned(),
        vips: vec![dnat.vip],
        protocol: dnat.protocol.name().to_lowercase(),
        port: dnat.port,
        port_name: None,
        targets: vec![std::net::SocketAddr::new(dnat.target, dnat.target_port)],
        counters: Counters::default(),
    });
    let vips = state
        .served_eips()
        .map(|eip| Vip { address: eip.address, gateway: eip.gateway, present: true })
        .collect();
    Status {
        version: String::new(),
        gateway_id: String::new(),
        process: None,
        ready: true,
        not_ready: Vec::new(),
        config: None,
        interfaces: Vec::new(),
        programs: Vec::new(),
        attach: None,
        handover: None,
        vips,
        services: services.collect(),
        flow_tables: Vec::new(),
        map_memory_bytes: 0,
        drops: Vec::new(),
        sweep: None,
        problems: Vec::new(),
    }
}

#[test]
fn an_operation_is_done_when_the_gateway_says_so() {
    let del = "dnat-del 172.18.0.18,80,tcp,10.96.0.7,80";
    let (none, web) = (after(&[EIP]), after(&[EIP, WEB]));
    let moved = after(&[EIP, "dnat-add 172.18.0.18,80,tcp,10.96.0.7,81,10.16.0.1"]);
    let reasons = |line: &str, state: &State, status: &Status| {
        unserved(&operation(line).unwrap(), state, status).join("; ")
    };
    assert_eq!(reasons(WEB, &web, &status(&web)), "");
    assert_eq!(reasons(WEB, &web, &status(&none)), "172.18.0.18 TCP 80 is not forwarded yet");
    assert_eq!(
        reasons(WEB, &web, &status(&moved)),
        "172.18.0.18 TCP 80 is not forwarded to 10.96.0.7:80 yet"
    );
    assert_eq!(reasons(del, &none, &status(&none)), "");
    assert_eq!(reasons(del, &none, &status(&web)), "172.18.0.18 TCP 80 is still forwarded");
    assert_eq!(reasons(WEB, &none, &status(&none)), "", "another operation has taken it back meanwhile");
    assert_eq!(reasons(EIP, &none, &status(&none)), "", "there is nothing to serve yet");
    assert_eq!(reasons(EIP, &web, &status(&none)), "172.18.0.18/16 is not served yet");
    let unready = Status { not_ready: vec!["net1 is missing".to_owned()], ..status(&web) };
    assert_eq!(reasons(WEB, &web, &unready), "net1 is missing");
    assert_eq!(reasons("init", &none, &unready), "");
}

/// A line about one of a few ports, so that lines meet.
fn line() -> impl Strategy<Value = String> {
    let port = prop_oneof![Just(80_u16), Just(8080), Just(8081)];
    let protocol = prop_oneof![Just("tcp"), Just("udp"), Just("sctp")];
    let pair = prop_oneof![
        Just(("172.18.0.18", "10.96.0.7", "10.16.0.1")),
        Just(("172.18.0.18", "10.96.0.9", "10.16.0.1")),
        Just(("fd00:18::18", "fd00:96::7", "fd00:16::1")),
    ];
    let dnat =
        (any::<bool>(), pair, port, protocol).prop_map(|(add, (vip, target, gateway), port, protocol)| {
            let rule = format!("{vip},{port},{protocol},{target},{port}");
            if add { format!("dnat-add {rule},{gateway}") } else { format!("dnat-del {rule}") }
        });
    prop_oneof![1 => Just("init".to_owned()), 2 => Just(EIP.to_owned()), 2 => Just(EIP6.to_owned()), 12 => dnat]
}

proptest! {
    /// Kube-OVN repeats everything on every event.
    #[test]
    fn to_repeat_an_operation_changes_nothing(lines in prop::collection::vec(line(), 0..40)) {
        let mut state = after(&[EIP, EIP6]);
        for line in &lines {
            let operation = operation(line).unwrap();
            let once = state.after(&operation).unwrap();
            prop_assert_eq!(once.clone().after(&operation).unwrap(), once.clone());
            state = once;
        }
        // The loader takes whatever comes out.
        services(&state);
        prop_assert_eq!(unserved(&Operation::Init, &state, &status(&state)), Vec::<String>::new());
    }

    /// The last word on each port counts, whatever was said of others in between.
    #[test]
    fn the_order_of_different_ports_leaves_no_trace(
        (lines, shuffled) in prop::collection::vec(line(), 0..12)
            .prop_map(|mut lines| {
                // One line about each port of each VIP.
                let about = |line: &String| {
                    let fields: Vec<_> = line.split([' ', ',']).skip(1).take(3).map(str::to_owned).collect();
                    fields
                };
                lines.sort_by_key(about);
                lines.dedup_by_key(|line| about(line));
                lines
            })
            .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle()))
    ) {
        let run = |lines: &[String]| {
            let all: Vec<&str> = [EIP, EIP6].into_iter().chain(lines.iter().map(String::as_str)).collect();
            after(&all)
        };
        prop_assert_eq!(run(&lines), run(&shuffled));
    }
}
