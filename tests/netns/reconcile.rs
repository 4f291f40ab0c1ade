//! The gateway's network on a real kernel: what `ip` prints, what survives, what comes back, what is left.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use etherparse::{ArpOperation, LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use ipnet::IpNet;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket};
use sluice_gateway::config::{Config, Gateway, Port, Protocol, Service, Vip};
use sluice_gateway::net::{Net, Outcome, Step};
use sluice_tests::netns::Netns;
use sluice_tests::wait::PATIENCE;
use tokio::runtime::Runtime;

/// A pod with `eth0` (10.16.0.2/16, fd00:16::2/64) and a macvlan `net1`, as the seed has them, and the world outside it:
/// `ext1` there sees what `net1` sends.
struct Pod {
    outside: Netns,
    inside: Netns,
    runtime: Runtime,
}

impl Pod {
    fn new() -> Self {
        let pod = Self {
            outside: Netns::new("outside").unwrap(),
            inside: Netns::new("pod").unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        };
        // A namespace copies the machine's IPv4 settings; a pod's are off.
        pod.inside
            .sysctl(&[
                ("net/ipv4/ip_forward", "0"),
                ("net/ipv4/conf/default/promote_secondaries", "0"),
                ("net/ipv4/conf/all/promote_secondaries", "0"),
                ("net/ipv6/conf/default/accept_dad", "0"),
            ])
            .unwrap();
        pod.outside
            .ip("link add ext0 type veth peer name ext1\nlink set ext0 up\nlink set ext1 up\n\
                 addr add 172.18.0.1/16 dev ext1\naddr add fd00:18::1/64 dev ext1 nodad")
            .unwrap();
        pod.add_eth0();
        pod.add_net1();
        pod
    }

    fn add_eth0(&self) {
        let pod = self.inside.path();
        self.outside
            .ip(&format!(
                "link add eth0p mtu 1400 type veth peer name eth0 mtu 1400 netns {pod}\nlink set eth0p up"
            ))
            .unwrap();
        self.inside
            .ip("link set eth0 up\naddr add 10.16.0.2/16 brd + dev eth0\naddr add fd00:16::2/64 dev eth0 nodad\n\
                 route add default via 10.16.0.1 dev eth0\nroute add default via fd00:16::1 dev eth0")
            .unwrap();
    }

    /// Adds `net1` as multus leaves it: without an address, and here also down.
    fn add_net1(&self) {
        let pod = self.inside.path();
        self.outside
            .ip(&format!("link add link ext0 name net1 netns {pod} type macvlan mode bridge"))
            .unwrap();
    }

    fn open(&self) -> Net {
        self.inside.run(|| self.runtime.block_on(async { Ok(Net::open()?) })).unwrap()
    }

    fn reconcile(&self, net: &Net, config: &Config) -> Outcome {
        self.inside.run(|| self.runtime.block_on(async { Ok(net.reconcile(config).await?) })).unwrap()
    }

    /// A round in which everything succeeds.
    fn converge(&self, net: &Net, config: &Config) -> Outcome {
        let outcome = self.reconcile(net, config);
        assert!(
            outcome.failed.is_empty(),
            "{}",
            outcome.failed.iter().map(|f| f.to_string()).collect::<String>()
        );
        assert_eq!(outcome.blocked, []);
        outcome
    }

    /// Waits for the kernel's word that something changed.
    fn changed(&self, net: &Net) {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, net.changed()).await })
            .context("no notification")
            .unwrap();
    }

    /// Lets the notifications of what has been done so far pass.
    fn settle(&self, net: &Net) {
        let changed = async { tokio::time::timeout(Duration::from_millis(300), net.changed()).await.is_ok() };
        if self.runtime.block_on(changed) {
            self.settle(net);
        }
    }

    /// Waits for a condition while the loader's tasks run.
    fn wait<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        self.runtime.block_on(async {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(value) = check() {
                    return value;
                }
                assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// What an `ip` command prints, one line each, without the blanks at the ends that `ip` likes to leave.
    fn ip(&self, command: &str) -> Vec<String> {
        let output = self.inside.output("ip", &command.split(' ').collect::<Vec<_>>()).unwrap();
        output.lines().map(|line| line.trim().replace('\t', " ")).collect()
    }

    /// Runs `ip` commands, one per line. (A batch would not take IPv6 rules.)
    fn set(&self, commands: &str) {
        for command in commands.lines() {
            self.ip(command.trim());
        }
    }

    /// The addresses of `net1` but the link-local one.
    fn addresses(&self) -> Vec<String> {
        self.ip("addr show net1")
            .into_iter()
            .filter(|line| line.starts_with("inet") && !line.contains("scope link"))
            .collect()
    }
}

fn vip(net: &str, gateway: Option<&str>) -> Vip {
    Vip { address: net.parse().unwrap(), gateway: gateway.map(|g| g.parse().unwrap()) }
}

fn config(vips: &[Vip], targets: &[&str]) -> Config {
    Config {
        gateway: Gateway::default(),
        services: vec![Service {
            name: "default/test-service".to_owned(),
            vips: vips.to_vec(),
            snat: Vec::new(),
            targets: targets.iter().map(|target| target.parse().unwrap()).collect(),
            ports: vec![Port { name: None, protocol: Protocol::Tcp, port: 80, target_port: 80 }],
            source_ranges: Vec::new(),
        }],
    }
}

/// The seed's Service.
fn seed() -> Config {
    config(&[vip("172.18.0.18/16", Some("172.18.0.1"))], &["10.109.201.193"])
}

fn dual_stack() -> Config {
    config(
        &[vip("172.18.0.18/16", Some("172.18.0.1")), vip("fd00:18::18/64", Some("fd00:18::1"))],
        &["10.109.201.193", "fd00:96::c1"],
    )
}

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

#[test]
fn a_silent_gateway_delays_nothing_and_next_hops_are_resolved_without_traffic() {
    let pod = Pod::new();
    pod.outside.ip("addr add 10.16.0.1/16 dev eth0p").unwrap();
    let net = pod.open();
    let mut wanted = dual_stack();
    wanted.services[0].vips[0].gateway = Some("172.18.9.9".parse().unwrap());
    let start = Instant::now();
    pod.converge(&net, &wanted);
    assert!(start.elapsed() < Duration::from_secs(1));
    let resolved = |device: &str, address: &str| {
        let neighbours = pod.ip(&format!("neigh show dev {device}"));
        neighbours.iter().any(|line| line.starts_with(&format!("{address} lladdr")))
    };
    pod.wait("the next hops are known", || {
        Some(()).filter(|()| resolved("net1", "fd00:18::1") && resolved("eth0", "10.16.0.1"))
    });
    assert!(!resolved("net1", "172.18.9.9"));
}

#[test]
fn a_vip_is_announced_when_it_is_new_and_when_its_link_returns() {
    let pod = Pod::new();
    let listener = Listener::new(&pod.outside, "ext1");
    let mac = |outcome: &Outcome| outcome.interfaces.external.as_ref().unwrap().mac.unwrap();
    // Waits for so many announcements of each kind.
    let heard = |mac: [u8; 6], rounds: usize| {
        let mut counts = [0; 3];
        pod.wait("announcements", || {
            for heard in listener.drain().into_iter().filter(|heard| heard.mac == mac) {
                counts[heard.kind as usize] += 1;
            }
            Some(()).filter(|()| counts.iter().all(|count| *count >= rounds))
        });
    };
    // The fourth announcement of a burst comes two seconds after the third: what is heard within one is of a new burst.
    let at_once = |what: &str, mac: [u8; 6]| {
        let start = Instant::now();
        heard(mac, 1);
        assert!(start.elapsed() < Duration::from_secs(1), "{what}");
    };

    let net = pod.open();
    let own = mac(&pod.converge(&net, &dual_stack()));
    at_once("the first round", own);
    drop(net);
    listener.drain();

    let net = pod.open();
    pod.converge(&net, &dual_stack());
    heard(own, 3);
    pod.set("link set net1 down\nlink set net1 up");
    pod.changed(&net);
    pod.converge(&net, &dual_stack());
    at_once("the link was down between two rounds", own);

    pod.set("link set net1 address 02:00:00:00:00:99");
    pod.changed(&net);
    let new = mac(&pod.converge(&net, &dual_stack()));
    assert_eq!(new, [2, 0, 0, 0, 0, 0x99]);
    heard(new, 3);
    pod.set("addr del 172.18.0.18/16 dev net1\naddr del fd00:18::18/64 dev net1");
    pod.changed(&net);
    pod.converge(&net, &dual_stack());
    at_once("the addresses were deleted and added again", new);
}

#[test]
fn two_capabilities_are_enough_and_a_missing_one_is_named() {
    let pod = Pod::new();
    let with = |capabilities: &[Capability], config: &Config| -> std::result::Result<Outcome, String> {
        std::thread::scope(|scope| {
            let work = || {
                let _inside = pod.inside.enter().unwrap();
                let all: CapsHashSet = caps::read(None, CapSet::Effective).unwrap();
                caps::set(None, CapSet::Effective, &capabilities.iter().copied().collect()).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let outcome = runtime.block_on(async {
                    let net = Net::open().map_err(|error| error.to_string())?;
                    net.reconcile(config).await.map_err(|error| error.to_string())
                });
                // To find the way back to the machine's namespace.
                caps::set(None, CapSet::Effective, &all).unwrap();
                outcome
            };
            scope.spawn(work).join().unwrap()
        })
    };
    use caps::Capability::{CAP_NET_ADMIN as ADMIN, CAP_NET_RAW as RAW};

    let message = with(&[ADMIN], &seed()).unwrap_err();
    assert!(message.contains("NET_RAW"), "{message}");
    let outcome = with(&[RAW], &seed()).unwrap();
    assert!(outcome.done.is_empty());
    for failure in &outcome.failed {
        assert!(failure.to_string().ends_with("the capability NET_ADMIN is missing"), "{failure}");
    }
    assert!(
        outcome
            .failed
            .iter()
            .any(|failure| failure.to_string().contains("add address 172.18.0.18/16 dev net1"))
    );
    let outcome = with(&[ADMIN, RAW], &dual_stack()).unwrap();
    assert!(outcome.failed.is_empty(), "{}", outcome.failed[0]);
    assert_eq!(pod.addresses().len(), 2);
}

#[test]
fn a_failing_vip_leaves_the_others_alone() {
    let pod = Pod::new();
    pod.inside.sysctl(&[("net/ipv6/conf/net1/disable_ipv6", "1")]).unwrap();
    let net = pod.open();
    let outcome = pod.reconcile(&net, &dual_stack());
    let messages: Vec<String> = outcome.failed.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages[0],
        "cannot add address fd00:18::18/64 dev net1: IPv6 is switched off on net1 (net.ipv6.conf.net1.disable_ipv6)"
    );
    assert_eq!(pod.addresses(), ["inet 172.18.0.18/16 scope global net1"]);
    assert_eq!(pod.ip("route show table 100").len(), 3);
}

/// What an announcement says.
#[derive(Debug)]
struct Heard {
    kind: Kind,
    mac: [u8; 6],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ArpRequest,
    ArpReply,
    Advertisement,
}

/// Receives the frames of one device, and reads the announcements among them.
struct Listener {
    socket: OwnedFd,
    index: usize,
}

impl Listener {
    fn new(netns: &Netns, device: &str) -> Self {
        netns
            .run(|| {
                let socket = socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )?;
                Ok(Self { socket, index: nix::net::if_::if_nametoindex(device)? as usize })
            })
            .unwrap()
    }

    /// The announcements that have arrived.
    fn drain(&self) -> Vec<Heard> {
        let (mut heard, mut buffer) = (Vec::new(), [0; 2048]);
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            if from.unwrap().ifindex() == self.index {
                heard.extend(announcement(&buffer[..length]));
            }
        }
        heard
    }
}

/// Reads an announcement of one of the VIPs; panics if it is not as it must be.
fn announcement(frame: &[u8]) -> Option<Heard> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet header") };
    let mac = ethernet.source();
    match (packet.net, packet.transport) {
        (Some(NetSlice::Arp(arp)), _) => {
            let sender = arp.sender_protocol_addr();
            if sender != [172, 18, 0, 18] || sender != arp.target_protocol_addr() {
                return None;
            }
            assert_eq!(ethernet.destination(), [0xff; 6]);
            assert_eq!(arp.sender_hw_addr(), mac);
            let kind = match arp.operation() {
                ArpOperation::REQUEST => Kind::ArpRequest,
                ArpOperation::REPLY => Kind::ArpReply,
                other => panic!("{other:?}"),
            };
            Some(Heard { kind, mac })
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            let header = ip.header();
            let [kind, flags] = [icmp.slice()[0], icmp.slice()[4]];
            let target: [u8; 16] = icmp.slice().get(8..24)?.try_into().unwrap();
            if kind != 136
                || Ipv6Addr::from(target) != "fd00:18::18".parse::<Ipv6Addr>().unwrap()
                || flags & 0x40 != 0
            {
                return None;
            }
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            assert_eq!((header.source_addr(), header.hop_limit()), (Ipv6Addr::from(target), 255));
            assert_eq!(header.destination_addr(), "ff02::1".parse::<Ipv6Addr>().unwrap());
            assert_eq!(ethernet.destination(), [0x33, 0x33, 0, 0, 0, 1]);
            assert_eq!(flags, 0x20, "override, and neither router nor solicited");
            assert_eq!(icmp.slice()[24..], [&[2, 1], &mac[..]].concat());
            Some(Heard { kind: Kind::Advertisement, mac })
        }
        _ => None,
    }
}
