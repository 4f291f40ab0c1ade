//! What `ip` prints.

use std::net::IpAddr;

use ipnet::IpNet;

use super::pod::{Pod, config, dual_stack, seed, vip};

#[test]
fn ip_prints_what_the_seed_prints() {
    let pod = Pod::new();
    let net = pod.open();
    let outcome = pod.converge(&net, &seed());

    assert_eq!(pod.addresses(), ["inet 172.18.0.18/16 scope global net1"]);
    assert_eq!(
        pod.ip("rule"),
        [
            "0: from all lookup local",
            "32763: from 172.18.0.18 lookup 100",
            "32764: from all iif eth0 lookup 100",
            "32765: from all iif net1 lookup 100",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    );
    assert_eq!(
        pod.ip("route show table 100"),
        [
            "default via 172.18.0.1 dev net1",
            "10.109.201.193 via 10.16.0.1 dev eth0",
            "172.18.0.0/16 dev net1 scope link",
        ]
    );
    assert_eq!(pod.ip("-6 rule"), ["0: from all lookup local", "32766: from all lookup main"], "no IPv6 VIP");
    let link = pod.ip("link show net1");
    assert!(link[0].contains("<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500"), "{link:?}");

    let external = outcome.interfaces.external.as_ref().unwrap();
    assert!(external.running && external.mtu == 1500 && external.mac.is_some(), "{external:?}");
    assert_eq!(external.addresses, ["172.18.0.18/16".parse::<IpNet>().unwrap()]);
    let cluster = outcome.interfaces.cluster.as_ref().unwrap();
    assert_eq!((cluster.mtu, cluster.name.as_str()), (1400, "eth0"));
    let target: IpAddr = "10.109.201.193".parse().unwrap();
    assert_eq!(outcome.interfaces.cluster_gateway(target), Some("10.16.0.1".parse().unwrap()));
    assert_eq!(outcome.interfaces.snat(target), Some("10.16.0.2".parse().unwrap()));
    assert_eq!(outcome.interfaces.snat("fd00:96::c1".parse().unwrap()), Some("fd00:16::2".parse().unwrap()));
}

#[test]
fn only_the_two_devices_forward() {
    let pod = Pod::new();
    let net = pod.open();
    let forwarding = || {
        let read = |device: &str| {
            pod.inside
                .run(|| Ok(std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{device}/forwarding"))?))
                .unwrap()
                .trim()
                .to_owned()
        };
        ["eth0", "net1", "lo", "all", "default"].map(read)
    };
    assert_eq!(forwarding(), ["0", "0", "0", "0", "0"]);
    pod.converge(&net, &seed());
    assert_eq!(forwarding(), ["1", "1", "0", "0", "0"]);
    pod.runtime.block_on(net.remove()).unwrap();
    assert_eq!(forwarding(), ["0", "0", "0", "0", "0"]);
}

#[test]
fn a_second_round_does_nothing() {
    let pod = Pod::new();
    let net = pod.open();
    assert!(!pod.converge(&net, &dual_stack()).done.is_empty());
    assert_eq!(pod.converge(&net, &dual_stack()).done, []);
    // Nor does the first round of the next process.
    assert_eq!(pod.converge(&pod.open(), &dual_stack()).done, []);
}

#[test]
fn dual_stack_has_the_same_shape() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    assert_eq!(
        pod.addresses(),
        ["inet 172.18.0.18/16 scope global net1", "inet6 fd00:18::18/64 scope global nodad"]
    );
    assert_eq!(
        pod.ip("-6 rule"),
        [
            "0: from all lookup local",
            "32763: from fd00:18::18 lookup 100",
            "32764: from all iif eth0 lookup 100",
            "32765: from all iif net1 lookup 100",
            "32766: from all lookup main",
        ]
    );
    assert_eq!(
        pod.ip("-6 route show table 100"),
        [
            "fd00:18::/64 dev net1 metric 1024 pref medium",
            "fd00:96::c1 via fd00:16::1 dev eth0 metric 1024 pref medium",
            "default via fd00:18::1 dev net1 metric 1024 pref medium",
        ]
    );
}

#[test]
fn targets_are_on_link_without_a_gateway_and_clients_without_theirs() {
    let pod = Pod::new();
    pod.set("route del default\n-6 route del default");
    let net = pod.open();
    let vips = [vip("172.18.0.18/16", None), vip("fd00:18::18/64", None)];
    let outcome = pod.converge(&net, &config(&vips, &["10.16.0.50", "fd00:16::50"]));
    assert_eq!(outcome.interfaces.cluster_gateways, Vec::<IpAddr>::new());
    assert_eq!(
        pod.ip("route show table 100"),
        ["10.16.0.50 dev eth0 scope link", "172.18.0.0/16 dev net1 scope link"]
    );
    assert_eq!(
        pod.ip("-6 route show table 100"),
        ["fd00:16::50 dev eth0 metric 1024 pref medium", "fd00:18::/64 dev net1 metric 1024 pref medium"]
    );
}

#[test]
fn gateways_outside_every_prefix_and_link_local_ones_are_accepted() {
    let pod = Pod::new();
    let net = pod.open();
    let vips = [vip("198.51.100.7/32", Some("172.18.0.1")), vip("fd00:18::18/64", Some("fe80::1"))];
    let mut wanted = config(&vips, &["10.109.201.193", "fd00:96::c1"]);
    wanted.gateway.cluster_gateways = vec!["169.254.1.1".parse().unwrap(), "fd00:77::1".parse().unwrap()];
    pod.converge(&net, &wanted);
    assert_eq!(
        pod.ip("route show table 100"),
        ["default via 172.18.0.1 dev net1 onlink", "10.109.201.193 via 169.254.1.1 dev eth0 onlink"]
    );
    assert_eq!(
        pod.ip("-6 route show table 100"),
        [
            "fd00:18::/64 dev net1 metric 1024 pref medium",
            "fd00:96::c1 via fd00:77::1 dev eth0 metric 1024 onlink pref medium",
            "default via fe80::1 dev net1 metric 1024 pref medium",
        ]
    );
    assert_eq!(pod.converge(&net, &wanted).done, []);
}
