//! Edits of the configuration, also across a restart.

use anyhow::Context;
use sluice_gateway::net::Step;

use super::pod::{Pod, config, dual_stack, seed, vip};

#[test]
fn a_new_gateway_replaces_the_old_one_in_one_operation() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    let vips = [vip("172.18.0.18/16", Some("172.18.0.254")), vip("fd00:18::18/64", Some("fd00:18::fe"))];
    let outcome = pod.converge(&net, &config(&vips, &["10.109.201.193", "fd00:96::c1"]));
    assert!(
        matches!(&outcome.done[..], [Step::ReplaceRoute(v4), Step::ReplaceRoute(v6)]
            if v4.gateway == vips[0].gateway && v6.gateway == vips[1].gateway),
        "{:?}",
        outcome.done
    );
    assert_eq!(pod.ip("route show table 100")[0], "default via 172.18.0.254 dev net1");
    assert_eq!(
        pod.ip("-6 route show table 100")[2],
        "default via fd00:18::fe dev net1 metric 1024 pref medium"
    );
    assert_eq!(pod.ip("route show table 100").len(), 3);
}

#[test]
fn a_new_prefix_is_there_before_the_old_one_goes() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &dual_stack());
    let vips = [vip("172.18.0.18/24", Some("172.18.0.1")), vip("fd00:18::18/80", Some("fd00:18::1"))];
    let outcome = pod.converge(&net, &config(&vips, &["10.109.201.193", "fd00:96::c1"]));
    let at = |text: &str| {
        outcome.done.iter().position(|step| step.to_string() == text).context(text.to_owned()).unwrap()
    };
    assert!(at("add address 172.18.0.18/24 dev net1") < at("remove address 172.18.0.18/16 dev net1"));
    assert!(
        at("add route 172.18.0.0/24 dev net1 table 100")
            < at("remove route 172.18.0.0/16 dev net1 table 100")
    );
    assert_eq!(
        pod.addresses(),
        ["inet 172.18.0.18/24 scope global net1", "inet6 fd00:18::18/80 scope global nodad"]
    );
    assert_eq!(pod.ip("route show table 100").len(), 3);
    assert_eq!(pod.ip("-6 route show table 100").len(), 3);
    assert_eq!(pod.converge(&net, &config(&vips, &["10.109.201.193", "fd00:96::c1"])).done, []);
}

#[test]
fn removing_the_first_vip_of_a_subnet_keeps_the_second() {
    let pod = Pod::new();
    let net = pod.open();
    let (first, second) = (vip("172.18.0.18/16", None), vip("172.18.0.19/16", None));
    pod.converge(&net, &config(&[first, second], &["10.109.201.193"]));
    assert_eq!(pod.addresses()[1], "inet 172.18.0.19/16 scope global secondary net1");
    pod.converge(&net, &config(&[second], &["10.109.201.193"]));
    // Looked at before any round could have repaired it.
    assert_eq!(pod.addresses(), ["inet 172.18.0.19/16 scope global net1"]);
    assert_eq!(pod.ip("rule")[1], "32763: from 172.18.0.19 lookup 100");
}

#[test]
fn a_restart_removes_what_left_the_file_meanwhile() {
    let pod = Pod::new();
    let mut old = dual_stack();
    old.services[0].vips.push(vip("192.0.2.8/24", Some("192.0.2.1")));
    old.services[0].targets.push("10.109.201.200".parse().unwrap());
    old.gateway.table = 150;
    let net = pod.open();
    pod.converge(&net, &old);
    drop(net);
    pod.set("addr add 172.18.0.77/16 dev net1");
    let net = pod.open();
    pod.converge(&net, &seed());
    assert_eq!(
        pod.addresses(),
        ["inet 172.18.0.18/16 scope global net1", "inet 172.18.0.77/16 scope global secondary net1"]
    );
    assert_eq!(pod.ip("rule").len(), 6);
    assert_eq!(pod.ip("-6 rule").len(), 2);
    assert_eq!(pod.ip("route show table 100").len(), 3);
    let old_table = pod.ip("route show table all").into_iter().filter(|line| line.contains("table 150"));
    assert_eq!(old_table.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn another_external_interface_takes_everything_over() {
    let pod = Pod::new();
    let net = pod.open();
    pod.converge(&net, &seed());
    pod.outside
        .ip(&format!("link add link ext0 name net2 netns {} type macvlan mode bridge", pod.inside.path()))
        .unwrap();
    let mut wanted = seed();
    wanted.gateway.external_interface = "net2".to_owned();
    pod.converge(&net, &wanted);
    assert_eq!(pod.addresses(), Vec::<String>::new());
    assert_eq!(pod.ip("rule")[3], "32765: from all iif net2 lookup 100");
    assert_eq!(pod.ip("rule").len(), 6);
    assert_eq!(pod.ip("route show table 100")[0], "default via 172.18.0.1 dev net2");
    let forwarding = |device: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{device}/forwarding");
        pod.inside.run(|| Ok(std::fs::read_to_string(path)?)).unwrap().trim().to_owned()
    };
    assert_eq!([forwarding("net1"), forwarding("net2"), forwarding("eth0")], ["0", "1", "1"]);
}
