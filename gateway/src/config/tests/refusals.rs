//! Each rule of meaning broken once: the error names line, field, fault and fix.

use super::super::{Error, Problem, limits, parse, read};
use super::{MINIMAL, config};

const GOOD: &str = "\
version: 1
gateway:
  externalInterface: net1
  table: 100
  timeouts:
    udpStream: 2m
services:
- name: default/a
  vips:
  - address: 172.18.0.18/16
    gateway: 172.18.0.1
  - address: fd00:18::18/64
    gateway: fe80::1
  targets: [10.109.201.193, fd00:109::1]
  ports:
  - name: http
    protocol: TCP
    port: 80
    targetPort: 8080
  - protocol: SCTP
    port: 36412
  snat:
  - 10.16.0.2
  sourceRanges:
  - 203.0.113.0/24
- name: default/b
  vips:
  - address: 172.18.0.19/16
    gateway: 172.18.0.1
  targets: [10.109.201.194]
  ports:
  - port: 53
    protocol: UDP
";

pub(super) fn problems(text: &str) -> Vec<Problem> {
    match parse("gateway.yaml", text) {
        Ok(config) => panic!("accepted: {config:?}\n{text}"),
        Err(error) => error.problems().to_vec(),
    }
}

/// [`GOOD`] with `from` replaced by `to` has exactly one problem: at `line`, of `field`, and its words hold `fault` and `fix`.
#[track_caller]
pub(super) fn refused(from: &str, to: &str, line: u64, field: &str, fault: &str, fix: &str) {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} does not name one place");
    let text = GOOD.replace(from, to);
    let problems = problems(&text);
    let [problem] = problems.as_slice() else { panic!("{problems:#?}\n{text}") };
    assert_eq!((problem.line, problem.field.as_str()), (Some(line), field), "{problem}");
    assert!(problem.fault.contains(fault), "{problem}");
    assert!(problem.fix.contains(fix), "{problem}");
}

#[test]
fn the_base_of_these_tests_is_good() {
    assert_eq!(config(GOOD).services.len(), 2);
}

#[test]
fn gateway_settings() {
    refused(
        "externalInterface: net1",
        "externalInterface: eth0",
        3,
        "gateway.externalInterface",
        "both",
        "different",
    );
    refused(
        "externalInterface: net1",
        "externalInterface: eth/0",
        3,
        "gateway.externalInterface",
        "eth/0",
        "15 bytes",
    );
    refused(
        "externalInterface: net1",
        "externalInterface: abcdefghijklmnop",
        3,
        "gateway.externalInterface",
        "",
        "15 bytes",
    );
    refused(
        "externalInterface: net1",
        "externalInterface: lo",
        3,
        "gateway.externalInterface",
        "`lo`",
        "other than lo",
    );
    refused(
        "externalInterface: net1",
        "clusterInterface: net1",
        3,
        "gateway.clusterInterface",
        "both",
        "different",
    );
    refused("table: 100", "table: 254", 4, "gateway.table", "kernel's own", "1 to 252");
    refused("table: 100", "table: 0", 4, "gateway.table", "out of bounds", "1 to 252");
    refused("table: 100", "maxFlows: 63", 4, "gateway.maxFlows", "out of bounds", "64 to 16777216");
    refused("table: 100", "maxFlows: 16777217", 4, "gateway.maxFlows", "out of bounds", "64 to 16777216");
    refused(
        "table: 100",
        "icmpErrorsPerSecond: 1000001",
        4,
        "gateway.icmpErrorsPerSecond",
        "out of",
        "0 to 1000000",
    );
    refused(
        "table: 100",
        "attach: native",
        4,
        "gateway.attach",
        "`native` is not a value of this field",
        "use one of auto, tc, xdp",
    );
    refused("table: 100", "adminPort: 0", 4, "gateway.adminPort", "0 is not a port", "1 to 65535");
    refused(
        "table: 100",
        "clusterGateways: [10.16.0.1, 10.16.0.2]",
        4,
        "gateway.clusterGateways[1]",
        "second IPv4",
        "one of each",
    );
    refused(
        "table: 100",
        "clusterGateways: [10.16.0.1/16]",
        4,
        "gateway.clusterGateways[0]",
        "not an IP address",
        "without",
    );
    refused(
        "udpStream: 2m",
        "udpStream: 120",
        6,
        "gateway.timeouts.udpStream",
        "not a duration",
        "such as 30s",
    );
    refused("udpStream: 2m", "udpStream: 2d", 6, "gateway.timeouts.udpStream", "out of bounds", "1s to 1d");
    refused(
        "udpStream: 2m",
        "tcpEstablished: 91d",
        6,
        "gateway.timeouts.tcpEstablished",
        "out of bounds",
        "1s to 90d",
    );
    refused("udpStream: 2m", "tcpClosed: 0s", 6, "gateway.timeouts.tcpClosed", "out of bounds", "1s to 1d");
}

#[test]
fn names() {
    refused(
        "default/b",
        "default/a",
        26,
        "services[1].name",
        "already the name of services[0]",
        "name of its own",
    );
    refused("default/b", "'a b'", 26, "services[1].name", "`a b` is not a name", "letters");
    refused("default/b", "''", 26, "services[1].name", "`` is not a name", "letters");
    refused(
        "name: http",
        "name: \"a\\nb\"",
        16,
        "services[0].ports[0].name",
        "`a\\nb` is not a name",
        "1 to 63",
    );
}

#[test]
fn vips() {
    let field = "services[1].vips[0].address";
    let refuse = |vip: &str, fault, fix| refused("172.18.0.19/16", vip, 28, field, fault, fix);
    refuse("172.18.0.19", "not an address with a prefix length", "such as 172.18.0.18/16");
    refuse("172.18.0.0/16", "network address", "one host");
    refuse("172.18.255.255/16", "broadcast address", "one host");
    refuse("127.0.0.1/8", "loopback", "one host");
    refuse("224.0.0.5/24", "multicast", "one host");
    refuse("0.0.0.0/0", "unspecified", "one host");
    refuse("fe80::1/64", "link-local", "route to");
    refuse("'::ffff:172.18.0.19/112'", "IPv4-mapped", "one host");
    refused(
        "fd00:18::18/64\n    gateway: fe80::1",
        "172.18.0.18/16",
        12,
        "services[0].vips[1].address",
        "listed twice",
        "once",
    );
    refused(
        "  vips:\n  - address: 172.18.0.19/16\n    gateway: 172.18.0.1\n",
        "  vips: []\n",
        27,
        "services[1].vips",
        "no VIP",
        "172.18.0.18/16",
    );
    // The same VIP may serve other ports for another service, but only as one address of one subnet.
    config(&GOOD.replace("172.18.0.19/16", "172.18.0.18/16"));
    refused(
        "172.18.0.19/16",
        "172.18.0.18/24",
        28,
        "services[1].vips[0]",
        "another prefix length",
        "the same subnet",
    );
}

#[test]
fn vip_gateways() {
    let of_a = "    gateway: 172.18.0.1\n  - address: fd00:18::18/64";
    let v4 = |gateway: &str, fault, fix| {
        let to = format!("    gateway: {gateway}\n  - address: fd00:18::18/64");
        refused(of_a, &to, 11, "services[0].vips[0].gateway", fault, fix);
    };
    v4("172.19.0.1", "outside the VIP's subnet 172.18.0.0/16", "inside the subnet");
    v4("172.18.0.18", "the VIP itself", "router");
    v4("172.18.0.0", "network address of its subnet", "router");
    v4("172.18.255.255", "broadcast address of its subnet", "router");
    v4("fe80::1", "outside the VIP's subnet", "inside the subnet");
    v4("router", "not an IP address", "10.0.0.1");
    refused(
        "fe80::1",
        "fd00:19::1",
        13,
        "services[0].vips[1].gateway",
        "outside the VIP's subnet fd00:18::/64",
        "inside",
    );
}

#[test]
fn targets() {
    let field = "services[1].targets";
    let refuse =
        |targets: &str, field, fault, fix| refused("[10.109.201.194]", targets, 30, field, fault, fix);
    refuse("[]", field, "no IPv4 target for the VIP 172.18.0.19", "add an IPv4 address");
    refuse("[10.0.0.1, 10.0.0.2]", "services[1].targets[1]", "second IPv4", "one of each family");
    refuse("[10.0.0.1, fd00::2]", field, "fd00::2, but the service has no IPv6 VIP", "remove it");
    refuse("[172.18.0.19]", field, "a VIP of this service", "ClusterIP");
    refuse("[127.0.0.1]", "services[1].targets[0]", "loopback", "one host");
    refuse("[kube-dns]", "services[1].targets[0]", "not an IP address", "10.0.0.1");
    refused(
        "[10.109.201.193, fd00:109::1]",
        "[10.109.201.193]",
        14,
        "services[0].targets",
        "no IPv6 target",
        "remove the VIP",
    );
}

#[test]
fn ports() {
    refused("port: 53\n", "port: 0\n", 32, "services[1].ports[0].port", "0 is not a port", "1 to 65535");
    refused(
        "targetPort: 8080",
        "targetPort: 0",
        19,
        "services[0].ports[0].targetPort",
        "0 is not a port",
        "1 to 65535",
    );
    refused(
        "port: 36412",
        "port: 36412\n    targetPort: 1",
        22,
        "services[0].ports[1].targetPort",
        "SCTP's checksum",
        "same port",
    );
    refused(
        "- protocol: SCTP\n    port: 36412",
        "- port: 80",
        20,
        "services[0].ports[1].port",
        "TCP 80 is already item 0",
        "once",
    );
    refused(
        "  - port: 53\n    protocol: UDP\n",
        "    []\n",
        31,
        "services[1].ports",
        "no port",
        "`- port: 80`",
    );
    let shared =
        GOOD.replace("172.18.0.19/16", "172.18.0.18/16").replace("port: 53\n    protocol: UDP", "port: 80");
    let [problem] = &problems(&shared)[..] else { panic!("one problem") };
    assert_eq!((problem.line, problem.field.as_str()), (Some(32), "services[1].ports[0]"));
    assert!(
        problem.fault.contains("TCP 80 of 172.18.0.18 is already served by services[0].ports[0]"),
        "{problem}"
    );
}

#[test]
fn snat_and_source_ranges() {
    refused(
        "  - 10.16.0.2",
        "  - 10.16.0.2\n  - 10.16.0.3",
        24,
        "services[0].snat[1]",
        "second IPv4",
        "one of each",
    );
    refused(
        "protocol: UDP\n",
        "protocol: UDP\n  snat: [fd00::5]\n",
        34,
        "services[1].snat",
        "no IPv6 VIP",
        "remove it",
    );
    let field = "services[0].sourceRanges[0]";
    let refuse = |range: &str, fault, fix| refused("203.0.113.0/24", range, 25, field, fault, fix);
    refuse("203.0.113.7/24", "bits beyond its prefix length", "write 203.0.113.0/24 or 203.0.113.7/32");
    refuse("203.0.113.7", "not a network", "203.0.113.0/24");
    refuse("203.0.113.0/33", "not a network", "203.0.113.0/24");
    refused(
        "protocol: UDP\n",
        "protocol: UDP\n  sourceRanges: ['2001:db8::/32']\n",
        34,
        "services[1].sourceRanges[0]",
        "no IPv6 VIP",
        "remove it",
    );
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    let text = GOOD
        .replace("table: 100", "table: 0")
        .replace("port: 53", "port: 0")
        .replace("udpStream: 2m", "udpStream: x");
    let error = parse("gateway.yaml", &text).unwrap_err();
    let fields: Vec<_> = error.problems().iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["gateway.table", "gateway.timeouts.udpStream", "services[1].ports[0].port"]);
    let first = error.to_string().lines().next().unwrap().to_owned();
    assert_eq!(first, "gateway.yaml: line 4: gateway.table: 0 is out of bounds: use a number from 1 to 252");
}

/// A service with `vips`, `ports` ports from 1 on, and `ranges` source ranges.
fn large(name: usize, vips: &[&str], ports: usize, ranges: usize) -> String {
    let v6 = vips[0].contains(':');
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let targets = if v6 { "['fd00:109::1']" } else { "[10.109.0.1]" };
    let vips = list(vips.iter().map(|vip| format!("{{address: '{vip}'}}")).collect());
    let ports = list((1..=ports).map(|port| format!("{{port: {port}}}")).collect());
    let range = |n: usize| {
        if v6 { format!("'2001:db8:{n:x}::/48'") } else { format!("10.{}.{}.0/24", n / 256, n % 256) }
    };
    let ranges = list((0..ranges).map(range).collect());
    format!("- {{name: s{name}, vips: {vips}, targets: {targets}, ports: {ports}, sourceRanges: {ranges}}}\n")
}

#[test]
fn limits_of_the_maps() {
    let file = |services: &[String]| format!("version: 1\nservices:\n{}", services.concat());
    let refused = |services: &[String], line, field, fault: &str, fix: &str| {
        let problems = problems(&file(services));
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        assert_eq!((problem.line, problem.field.as_str()), (Some(line), field), "{problem}");
        assert!(problem.fault.contains(fault) && problem.fix.contains(fix), "{problem}");
    };
    let (one, two, three) = (&["172.18.0.1/16"][..], &["172.18.0.2/16"][..], &["fd00::3/64"][..]);
    let both = &["172.18.0.3/16", "172.18.0.4/16"][..];

    config(&file(&[large(1, one, 4_000, 0), large(2, three, 95, 0)]));
    refused(&[large(1, one, 4_000, 0), large(2, three, 96, 0)], 4, "services[1].ports", "4096 ports", "4095");

    config(&file(&[large(1, both, 2_048, 0)]));
    refused(&[large(1, both, 2_049, 0)], 3, "services[0].vips", "4098 pairs of IPv4 VIP and port", "4096");

    config(&file(&[large(1, one, 16, 4_000), large(2, two, 1, 1_536), large(3, three, 16, 4_096)]));
    let field = "services[1].sourceRanges";
    refused(
        &[large(1, one, 16, 4_000), large(2, two, 1, 1_537)],
        4,
        field,
        "65537 IPv4 source ranges",
        "65536",
    );
    refused(&[large(1, three, 16, 4_096), large(2, &["fd00::4/64"], 1, 1)], 4, field, "65537 IPv6", "65536");
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    assert!(matches!(read(&path), Err(Error::Read { .. })));

    std::fs::write(&path, MINIMAL).unwrap();
    assert!(read(&path).is_ok());

    let mut bytes = MINIMAL.as_bytes().to_vec();
    bytes.extend(b"# \xff\n");
    std::fs::write(&path, &bytes).unwrap();
    let error = read(&path).unwrap_err();
    assert_eq!(error.problems()[0].line, Some(9));
    assert!(error.to_string().contains("not UTF-8"), "{error}");

    let mut large = MINIMAL.as_bytes().to_vec();
    large.resize(limits::MAX_FILE_BYTES, b'\n');
    std::fs::write(&path, &large).unwrap();
    assert!(read(&path).is_ok());
    large.push(b'\n');
    std::fs::write(&path, &large).unwrap();
    assert!(matches!(read(&path), Err(Error::TooLarge { .. })));
}
