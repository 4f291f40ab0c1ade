//! Which packets arrive where.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;

use crate::case::Case;
use crate::stream::Stream;

/// Asks a backend for its name by UDP.
fn udp_hostname(case: &Case, server: &str) -> std::io::Result<String> {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect(server)?;
        socket.send(b"hostname")?;
        let mut answer = [0; 256];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
    };
    case.cluster.client.network().unwrap().run(ask).unwrap()
}

#[test]
fn the_service_port_need_not_be_the_backends() {
    let case = Case::new("target-port");
    case.start_backends();
    // The second by the name of a container's port, and the larger number first: 80 is not a part of 8080.
    let ports = json!([
        { "name": "alt", "port": 8080, "targetPort": 8080 },
        { "name": "web", "port": 80, "targetPort": 8080 },
    ]);
    case.apply(&case.service("web", &json!({ "ports": ports })));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(&format!("{address}:8080"));
    case.assert_served(&format!("{address}:80"));
    case.assert_not_served(&format!("{address}:81"));
}

#[test]
fn udp_has_ports_of_its_own() {
    let case = Case::new("udp");
    case.start_backends();
    let ports = json!([
        { "name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP" },
        { "name": "web", "port": 53, "targetPort": 8080, "protocol": "TCP" },
    ]);
    case.apply(&case.service("web", &json!({ "ports": ports })));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    let server = format!("{address}:53");
    let name = udp_hostname(&case, &server).unwrap();
    assert!(name.starts_with("backend-"), "{name:?}");
    case.assert_served(&server);
}

#[test]
fn both_families_are_served() {
    let case = Case::new("dual-stack");
    case.start_backends();
    let spec = json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"] });
    case.apply(&case.service("web", &spec));
    let addresses = case.published("web");
    assert_eq!(addresses, [case.address_v6(2), case.address(2)]);
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        case.assert_served(&format!("{host}:80"));
    }
}

#[test]
fn ports_come_and_go_and_the_others_lose_nothing() {
    let case = Case::new("ports-under-load");
    case.start_backends();
    case.apply(&case.service("web", &json!({})));
    let [address] = &case.published("web")[..] else { panic!("one address") };
    case.assert_served(address);
    let stream = Stream::start(&case.cluster.client, address);

    let web = json!({ "name": "web", "port": 80, "targetPort": 8080 });
    let alt = json!({ "name": "alt", "port": 8000, "targetPort": 8080 });
    let with_alt = format!("{address}:8000");
    for _ in 0..2 {
        case.patch("service/web", &json!({ "spec": { "ports": [web, alt] } }));
        case.eventually("the new port is served", || case.hostname(&with_alt).ok());
        case.patch("service/web", &json!({ "spec": { "ports": [web] } }));
        case.eventually("the removed port is not", || case.hostname(&with_alt).err());
    }
    let outcome = stream.stop();
    assert_eq!(outcome.failures, [""; 0], "{} were answered", outcome.answered);
    assert!(outcome.answered > 10, "{} is no load", outcome.answered);
}
