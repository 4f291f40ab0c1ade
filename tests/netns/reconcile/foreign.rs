//! What others made stays.

use super::pod::{Pod, config, dual_stack, seed, vip};

#[test]
fn what_others_made_stays() {
    let pod = Pod::new();
    pod.set(
        "link set net1 up\n\
             addr add 172.18.0.77/16 dev net1\n\
             addr add fd00:18::77/64 dev net1 nodad\n\
             rule add iif eth0 lookup 100 priority 32000\n\
             rule add iif eth0 lookup 200 priority 32764\n\
             rule add from 172.18.0.77 lookup 100 priority 32763\n\
             rule add fwmark 1 lookup 100 priority 100\n\
             -6 rule add iif net1 lookup 200 priority 32765\n\
             route add 192.0.2.0/24 via 172.18.0.1 dev net1 table 100\n\
             route add 198.51.100.0/24 via 172.18.0.1 dev net1 table 100 proto static\n\
             route add blackhole 203.0.113.0/24 table 100\n\
             route add default via 172.18.0.9 dev net1 table 100 metric 50\n\
             route add default via 172.18.0.9 dev net1 table 200\n\
             -6 route add fd00:99::/64 via fd00:18::1 dev net1 table 100",
    );
    let everything = || {
        ["-d addr", "-d rule", "-d -6 rule", "-d route show table all", "-d -6 route show table all"]
            .map(|c| pod.ip(c))
    };
    let before = everything();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    assert_eq!(pod.addresses().len(), 4);
    let other = config(&[vip("172.18.0.19/24", None), vip("fd00:18::19/80", None)], &["10.109.201.194"]);
    pod.converge(&net, &other);
    assert_eq!(pod.addresses().len(), 4);
    assert_eq!(pod.ip("route show table 100").len(), 6);
    let outcome = pod.runtime.block_on(net.remove()).unwrap();
    assert!(outcome.failed.is_empty());
    assert_eq!(everything(), before);
}

#[test]
fn what_others_made_in_our_stead_serves_and_stays_theirs() {
    let pod = Pod::new();
    pod.set(
        "link set net1 up\n\
             addr add 172.18.0.18/16 brd + dev net1\n\
             addr add fd00:18::18/64 dev net1\n\
             rule add iif eth0 lookup 100 priority 32764\n\
             route add 172.18.0.0/16 dev net1 scope link table 100",
    );
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    assert_eq!(pod.addresses().len(), 2);
    assert_eq!(pod.ip("rule").len(), 6);
    assert_eq!(pod.ip("route show table 100").len(), 3);
    pod.runtime.block_on(net.remove()).unwrap();
    assert_eq!(
        pod.addresses(),
        ["inet 172.18.0.18/16 brd 172.18.255.255 scope global net1", "inet6 fd00:18::18/64 scope global"]
    );
    assert_eq!(pod.ip("rule")[1], "32764: from all iif eth0 lookup 100");
    assert_eq!(pod.ip("rule").len(), 4);
    assert_eq!(pod.ip("route show table 100"), ["172.18.0.0/16 dev net1 scope link"]);
}

#[test]
fn a_foreign_route_in_the_way_is_named_and_blocks_nothing_else() {
    let pod = Pod::new();
    pod.inside.ip("link set net1 up\naddr add 172.18.0.77/16 dev net1").unwrap();
    pod.inside.ip("route add default via 172.18.0.9 dev net1 table 100").unwrap();
    let net = pod.open();
    let outcome = pod.reconcile(&net, &seed());
    assert!(outcome.failed.is_empty());
    let message = outcome.blocked.iter().map(ToString::to_string).collect::<String>();
    assert!(message.contains("default via 172.18.0.9 dev net1 table 100 is not ours"), "{message}");
    assert_eq!(
        pod.ip("route show table 100"),
        [
            "default via 172.18.0.9 dev net1",
            "10.109.201.193 via 10.16.0.1 dev eth0",
            "172.18.0.0/16 dev net1 scope link",
        ]
    );
}
