//! The pod in which the cases run.

use std::time::{Duration, Instant};

use anyhow::Context;
use sluice_gateway::config::{Config, Gateway, Port, Protocol, Service, Vip};
use sluice_gateway::net::{Net, Outcome};
use sluice_tests::netns::Netns;
use sluice_tests::wait::PATIENCE;
use tokio::runtime::Runtime;

/// A pod with `eth0` (10.16.0.2/16, fd00:16::2/64) and a macvlan `net1`, as the seed has them, and the world outside it:
/// `ext1` there sees what `net1` sends.
pub struct Pod {
    pub outside: Netns,
    pub inside: Netns,
    pub runtime: Runtime,
}

impl Pod {
    /// Lays it out, with IPv4 settings as a pod has them.
    pub fn new() -> Self {
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

    /// Adds `eth0` with addresses and default routes.
    pub fn add_eth0(&self) {
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
    pub fn add_net1(&self) {
        let pod = self.inside.path();
        self.outside
            .ip(&format!("link add link ext0 name net1 netns {pod} type macvlan mode bridge"))
            .unwrap();
    }

    /// Opens the network as a new process of the loader would.
    pub fn open(&self) -> Net {
        self.inside.run(|| self.runtime.block_on(async { Ok(Net::open()?) })).unwrap()
    }

    /// One round, whatever comes of it.
    pub fn reconcile(&self, net: &Net, config: &Config) -> Outcome {
        self.inside.run(|| self.runtime.block_on(async { Ok(net.reconcile(config).await?) })).unwrap()
    }

    /// A round in which everything succeeds.
    pub fn converge(&self, net: &Net, config: &Config) -> Outcome {
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
    pub fn changed(&self, net: &Net) {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, net.changed()).await })
            .context("no notification")
            .unwrap();
    }

    /// Lets the notifications of what has been done so far pass.
    pub fn settle(&self, net: &Net) {
        let changed = async { tokio::time::timeout(Duration::from_millis(300), net.changed()).await.is_ok() };
        if self.runtime.block_on(changed) {
            self.settle(net);
        }
    }

    /// Waits for a condition while the loader's tasks run.
    pub fn wait<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
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
    pub fn ip(&self, command: &str) -> Vec<String> {
        let output = self.inside.output("ip", &command.split(' ').collect::<Vec<_>>()).unwrap();
        output.lines().map(|line| line.trim().replace('\t', " ")).collect()
    }

    /// Runs `ip` commands, one per line. (A batch would not take IPv6 rules.)
    pub fn set(&self, commands: &str) {
        for command in commands.lines() {
            self.ip(command.trim());
        }
    }

    /// The addresses of `net1` but the link-local one.
    pub fn addresses(&self) -> Vec<String> {
        self.ip("addr show net1")
            .into_iter()
            .filter(|line| line.starts_with("inet") && !line.contains("scope link"))
            .collect()
    }
}

/// A VIP.
pub fn vip(net: &str, gateway: Option<&str>) -> Vip {
    Vip { address: net.parse().unwrap(), gateway: gateway.map(|g| g.parse().unwrap()) }
}

/// A configuration of one service.
pub fn config(vips: &[Vip], targets: &[&str]) -> Config {
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
pub fn seed() -> Config {
    config(&[vip("172.18.0.18/16", Some("172.18.0.1"))], &["10.109.201.193"])
}

/// The seed's Service, with an IPv6 VIP and target beside it.
pub fn dual_stack() -> Config {
    config(
        &[vip("172.18.0.18/16", Some("172.18.0.1")), vip("fd00:18::18/64", Some("fd00:18::1"))],
        &["10.109.201.193", "fd00:96::c1"],
    )
}
