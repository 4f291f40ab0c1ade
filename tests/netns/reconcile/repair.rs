//! Deletions by others, and devices that come and go.

use super::pod::{Pod, dual_stack, seed};

#[test]
fn what_somebody_deletes_comes_back() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    let views = || {
        ["rule", "-6 rule", "route show table 100", "-6 route show table 100"]
            .map(|command| pod.ip(command))
            .into_iter()
            .chain([pod.addresses(), vec![pod.ip("link show net1")[0].clone()]])
            .collect::<Vec<_>>()
    };
    let before = views();
    for damage in [
        "addr del 172.18.0.18/16 dev net1",
        "addr del fd00:18::18/64 dev net1",
        "addr flush dev net1",
        "rule del from 172.18.0.18",
        "rule del iif eth0",
        "-6 rule del iif net1",
        "route del default table 100",
        "route flush table 100",
        "-6 route flush table 100",
        "link set net1 down",
        "link set eth0 down\nlink set eth0 up\naddr replace fd00:16::2/64 dev eth0 nodad\nroute add default via 10.16.0.1 dev eth0\n-6 route replace default via fd00:16::1 dev eth0",
    ] {
        pod.settle(&net);
        pod.set(damage);
        pod.changed(&net);
        let outcome = pod.reconcile(&net, &dual_stack());
        assert!(!outcome.done.is_empty(), "{damage}");
        assert_eq!(outcome.failed.len(), 0, "{damage}: {}", outcome.failed[0]);
        assert_eq!(views(), before, "{damage}");
    }
}

#[test]
fn devices_appear_late_vanish_and_come_back() {
    let pod = Pod::new();
    pod.set("link del net1\nlink del eth0");
    let net = pod.open();
    let outcome = pod.converge(&net, &dual_stack());
    assert_eq!((outcome.interfaces.external, outcome.interfaces.cluster), (None, None));
    assert_eq!(pod.ip("rule")[1..4].len(), 3, "rules name devices that are to come");

    pod.add_eth0();
    pod.changed(&net);
    assert!(pod.converge(&net, &dual_stack()).interfaces.cluster.is_some());
    assert_eq!(pod.ip("route show table 100"), ["10.109.201.193 via 10.16.0.1 dev eth0"]);
    let mut last = None;
    for _ in 0..2 {
        pod.add_net1();
        pod.changed(&net);
        let external = pod.converge(&net, &dual_stack()).interfaces.external.unwrap();
        assert!(external.running);
        assert_ne!(Some(external.index), last);
        last = Some(external.index);
        assert_eq!(pod.addresses().len(), 2);
        assert_eq!(pod.ip("route show table 100").len(), 3);
        assert_eq!(pod.ip("-6 route show table 100").len(), 3);
        pod.set("link del net1");
        pod.changed(&net);
        assert_eq!(pod.converge(&net, &dual_stack()).interfaces.external, None);
    }
}

#[test]
fn a_new_mtu_wakes_and_is_reported() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &seed());
    pod.settle(&net);
    pod.set("link set eth0 mtu 1300");
    pod.changed(&net);
    let outcome = pod.converge(&net, &seed());
    assert_eq!((outcome.interfaces.cluster.unwrap().mtu, outcome.done), (1300, vec![]));
}

#[test]
fn a_new_default_route_of_the_cluster_moves_the_targets() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    pod.settle(&net);
    pod.set("route replace default via 10.16.0.254 dev eth0\n-6 route replace default via fe80::fe dev eth0");
    pod.changed(&net);
    let outcome = pod.converge(&net, &dual_stack());
    let hops: Vec<String> = outcome.interfaces.cluster_gateways.iter().map(ToString::to_string).collect();
    assert_eq!(hops, ["10.16.0.254", "fe80::fe"]);
    assert_eq!(pod.ip("route show table 100")[1], "10.109.201.193 via 10.16.0.254 dev eth0");
    assert_eq!(
        pod.ip("-6 route show table 100")[1],
        "fd00:96::c1 via fe80::fe dev eth0 metric 1024 pref medium"
    );
}
