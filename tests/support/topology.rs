//! The seed's network in namespaces.
//!
//! ```text
//!   far client ---- router ==br0== external network ---- (ext0) node ---- backends
//!   192.0.2.100     172.18.0.1 |                          |  | 10.16.0.1    10.16.0.11, .12
//!                              |                  macvlan |  | veth
//!                           client               net1 |   |  | | eth0
//!                           172.18.0.100             gateway pod
//!                                                172.18.0.18   10.16.0.2
//! ```
//!
//! `net1` is a macvlan (bridge mode, MTU 1500) on the node's `ext0`, as multus makes it; `eth0` is a veth (MTU 1400). The
//! node forwards ClusterIPs to the backends as kube-proxy does. The VIP, routing rules and NAT are the gateway's to make.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::addresses::{Family, Plan};
use crate::kube_proxy::{self, Forward};
use crate::netns::Netns;

/// MAC address of the pod's `net1`, the seed's.
pub const NET1_MAC: &str = "ba:85:f7:02:9f:42";
/// MAC address of the pod's `eth0`, the seed's.
pub const ETH0_MAC: &str = "00:00:00:45:f4:29";

/// What kind of device `net1` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum External {
    /// A macvlan in bridge mode, as in the seed.
    Macvlan,
    /// A veth.
    Veth,
}

/// How to build a [`Topology`].
#[derive(Clone, Debug)]
pub struct Builder {
    families: Vec<Family>,
    external: External,
    external_mtu: u16,
    cluster_mtu: u16,
    forwards: Vec<Forward>,
    unproxied: bool,
    takes_xdp: bool,
    full_checksums: bool,
    publish: Option<String>,
}

impl Builder {
    /// Families that every link carries; IPv4 and IPv6 unless set.
    pub fn families(mut self, families: &[Family]) -> Self {
        self.families = families.to_vec();
        self
    }

    /// The kind of `net1`; a macvlan unless set.
    pub const fn external(mut self, external: External) -> Self {
        self.external = external;
        self
    }

    /// MTU of the external network, bytes of IP; 1500 unless set.
    pub const fn external_mtu(mut self, mtu: u16) -> Self {
        self.external_mtu = mtu;
        self
    }

    /// MTU of the cluster network, bytes of IP; 1400 unless set.
    pub const fn cluster_mtu(mut self, mtu: u16) -> Self {
        self.cluster_mtu = mtu;
        self
    }

    /// Lets the node forward a ClusterIP's port to backends.
    pub fn forward(mut self, forward: Forward) -> Self {
        self.forwards.push(forward);
        self
    }

    /// The first backend has the ClusterIPs itself: no address translation, and so no connection table, but the gateway's.
    pub const fn unproxied(mut self) -> Self {
        self.unproxied = true;
        self
    }

    /// The node's end of the pod's `eth0` takes frames that XDP redirects into it: a veth does with GRO, which it has not as made.
    pub const fn takes_xdp(mut self) -> Self {
        self.takes_xdp = true;
        self
    }

    /// The clients fill in transport checksums themselves, as they arrive from a wire, and leave none to a device.
    pub const fn full_checksums(mut self) -> Self {
        self.full_checksums = true;
        self
    }

    /// Gives the namespaces names for `ip netns`: `<prefix>-client`, `-router`, `-far`, `-node`, `-pod`, `-backend0`, ...
    pub fn publish(mut self, prefix: &str) -> Self {
        self.publish = Some(prefix.to_owned());
        self
    }

    /// Makes the namespaces, links, addresses and routes.
    ///
    /// # Errors
    /// Without root, or where the kernel lacks a device type; what was made is removed.
    pub fn build(self) -> Result<Topology> {
        ensure!(nix::unistd::geteuid().is_root(), "network namespaces need root: run the tests as root");
        let mut topology = Topology {
            client: Netns::new("client")?,
            router: Netns::new("router")?,
            far: Netns::new("far")?,
            node: Netns::new("node")?,
            pod: Netns::new("pod")?,
            backends: [Netns::new("backend0")?, Netns::new("backend1")?],
            builder: self,
        };
        if let Some(prefix) = topology.builder.publish.clone() {
            for netns in topology.all_mut() {
                netns.publish(&format!("{prefix}-{}", netns.name()))?;
            }
        }
        for netns in topology.all() {
            netns.sysctl(QUIET).with_context(|| format!("preparing {}", netns.name()))?;
        }
        topology.router.sysctl(FORWARDING)?;
        topology.node.sysctl(FORWARDING)?;
        topology.pod.sysctl(NOT_FORWARDING)?;
        topology.lay_links()?;
        topology.give_addresses()?;
        kube_proxy::program(&topology.node, &topology.builder.forwards, &topology.builder.families)?;
        Ok(topology)
    }
}

/// Settings of every namespace: addresses usable at once, and ICMP errors without a rate limit that would make what is
/// observed depend on how fast the machine is.
const QUIET: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
];

const FORWARDING: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

/// New namespaces copy what the machine has; a pod starts with neither.
const NOT_FORWARDING: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/default/forwarding", "0"),
];

/// The namespaces; dropping it removes them.
#[derive(Debug)]
pub struct Topology {
    /// The client in the external subnet; its link is `eth0`.
    pub client: Netns,
    /// The external subnet's router, whose `br0` is that subnet.
    pub router: Netns,
    /// The client behind the router; its link is `eth0`.
    pub far: Netns,
    /// The node.
    pub node: Netns,
    /// The gateway pod.
    pub pod: Netns,
    /// The backends; their link is `eth0`.
    pub backends: [Netns; 2],
    builder: Builder,
}

impl Topology {
    /// The seed's topology, without any forwarded port.
    pub fn builder() -> Builder {
        Builder {
            families: Family::ALL.to_vec(),
            external: External::Macvlan,
            external_mtu: 1500,
            cluster_mtu: 1400,
            forwards: Vec::new(),
            unproxied: false,
            takes_xdp: false,
            full_checksums: false,
            publish: None,
        }
    }

    /// The families that it carries.
    pub fn families(&self) -> &[Family] {
        &self.builder.families
    }

    /// Where one of the clients is.
    pub const fn client_at(&self, place: Place) -> &Netns {
        match place {
            Place::OnLink => &self.client,
            Place::Far => &self.far,
        }
    }

    /// Replaces the gateway pod by a new one with empty devices, as when the pod is re-created on the node.
    pub fn recreate_pod(&mut self) -> Result<()> {
        // The old devices go with their namespace, which the kernel takes down in the background: make room for the names.
        self.node.ip("link del pod0")?;
        if self.builder.external == External::Macvlan {
            self.pod.ip("link del net1")?;
        } else {
            self.router.ip("link del pod1")?;
        }
        self.pod = Netns::new("pod")?;
        self.pod.sysctl(QUIET)?;
        self.pod.sysctl(NOT_FORWARDING)?;
        self.lay_pod_links()?;
        self.give_pod_addresses()
    }

    /// Whether the pod's `eth0` takes frames that XDP redirects into it from now on.
    pub fn set_takes_xdp(&self, takes: bool) -> Result<()> {
        self.node.output("ethtool", &["-K", "pod0", "gro", if takes { "on" } else { "off" }]).map(drop)
    }

    /// Packets that XDP on a veth `net1` has redirected, as its driver counts them.
    pub fn redirected_by_xdp(&self) -> Result<u64> {
        let text = self.pod.output("ethtool", &["-S", "net1"])?;
        let counts = text.lines().filter_map(|line| line.split_once("_xdp_redirect:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().context("reading a counter of net1")).sum()
    }

    /// Whether XDP works in the pod.
    pub fn is_for_xdp(&self) -> bool {
        self.builder.external == External::Veth && self.builder.takes_xdp
    }

    /// Leaves published namespaces in place when this value goes.
    pub fn keep(mut self) {
        for netns in self.all_mut() {
            netns.keep();
        }
    }

    fn all(&self) -> [&Netns; 7] {
        let [first, second] = &self.backends;
        [&self.client, &self.router, &self.far, &self.node, &self.pod, first, second]
    }

    fn all_mut(&mut self) -> [&mut Netns; 7] {
        let [first, second] = &mut self.backends;
        [&mut self.client, &mut self.router, &mut self.far, &mut self.node, &mut self.pod, first, second]
    }

    fn lay_links(&self) -> Result<()> {
        let mtu = self.builder.external_mtu;
        let (client, far, node) = (self.client.path(), self.far.path(), self.node.path());
        self.router.ip(&format!(
            "link add br0 mtu {mtu} type bridge mcast_snooping 0\n\
             link set br0 up\n\
             link add client0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {client}\n\
             link add node0 mtu {mtu} type veth peer name ext0 mtu {mtu} netns {node}\n\
             link add far0 mtu 1500 type veth peer name eth0 mtu 1500 netns {far}\n\
             link set client0 master br0 up\n\
             link set node0 master br0 up\n\
             link set far0 up\n"
        ))?;
        self.client.ip("link set eth0 up")?;
        self.far.ip("link set eth0 up")?;
        if self.builder.full_checksums {
            self.client.set_checksum_offload("eth0", false)?;
            self.far.set_checksum_offload("eth0", false)?;
        }
        let mtu = self.builder.cluster_mtu;
        let mut links = String::from("link set ext0 up\n");
        for (index, backend) in self.backends.iter().enumerate() {
            let path = backend.path();
            writeln!(
                links,
                "link add backend{index} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {path}\n\
                 link set backend{index} up"
            )?;
            self.node.ip(&links)?;
            links.clear();
            backend.ip("link set eth0 up")?;
        }
        self.lay_pod_links()
    }

    fn lay_pod_links(&self) -> Result<()> {
        let (external, cluster) = (self.builder.external_mtu, self.builder.cluster_mtu);
        let pod = self.pod.path();
        let net1 = match self.builder.external {
            External::Macvlan => format!(
                "link add link ext0 name net1 address {NET1_MAC} mtu {external} netns {pod} type macvlan mode bridge\n"
            ),
            External::Veth => {
                self.router.ip(&format!(
                    "link add pod1 mtu {external} type veth peer name net1 address {NET1_MAC} mtu {external} netns {pod}\n\
                     link set pod1 master br0 up\n"
                ))?;
                String::new()
            }
        };
        self.node.ip(&format!(
            "{net1}link add pod0 mtu {cluster} type veth peer name eth0 address {ETH0_MAC} mtu {cluster} netns {pod}\n\
             link set pod0 up\n"
        ))?;
        if self.builder.takes_xdp {
            self.set_takes_xdp(true)?;
        }
        self.pod.ip("link set net1 up\nlink set eth0 up")
    }

    fn give_addresses(&self) -> Result<()> {
        for &family in &self.builder.families {
            let Plan { external_prefix, gateway, client, far, far_gateway, far_prefix, .. } = family.plan();
            let nodad = nodad(family);
            self.client.ip(&format!(
                "addr add {client}/{external_prefix} dev eth0{nodad}\nroute add default via {gateway}"
            ))?;
            self.far.ip(&format!(
                "addr add {far}/{far_prefix} dev eth0{nodad}\nroute add default via {far_gateway}"
            ))?;
            self.router.ip(&format!(
                "addr add {gateway}/{external_prefix} dev br0{nodad}\naddr add {far_gateway}/{far_prefix} dev far0{nodad}"
            ))?;
        }
        self.give_backend_addresses()?;
        self.give_pod_addresses()
    }

    fn give_backend_addresses(&self) -> Result<()> {
        for &family in &self.builder.families {
            let Plan { node, backends, cluster_ip, other_cluster_ip, .. } = family.plan();
            let (bits, nodad) = (family.bits(), nodad(family));
            for (index, (backend, address)) in self.backends.iter().zip(backends).enumerate() {
                self.node.ip(&format!(
                    "addr add {node}/{bits} dev backend{index}{nodad}\nroute add {address}/{bits} dev backend{index}"
                ))?;
                backend.ip(&format!(
                    "addr add {address}/{bits} dev eth0{nodad}\nroute add {node}/{bits} dev eth0\n\
                     route add default via {node} dev eth0"
                ))?;
            }
            if self.builder.unproxied {
                let [first, _] = backends;
                for cluster_ip in [cluster_ip, other_cluster_ip] {
                    self.node.ip(&format!("route add {cluster_ip}/{bits} via {first}"))?;
                    self.backends[0].ip(&format!("addr add {cluster_ip}/{bits} dev lo{nodad}"))?;
                }
            }
        }
        Ok(())
    }

    fn give_pod_addresses(&self) -> Result<()> {
        for &family in &self.builder.families {
            let Plan { pod, cluster_prefix, node, .. } = family.plan();
            let (bits, nodad) = (family.bits(), nodad(family));
            self.node
                .ip(&format!("addr add {node}/{bits} dev pod0{nodad}\nroute add {pod}/{bits} dev pod0"))?;
            self.pod.ip(&format!(
                "addr add {pod}/{cluster_prefix} dev eth0{nodad}\nroute add default via {node} dev eth0"
            ))?;
        }
        Ok(())
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the external subnet.
    OnLink,
    /// Behind the external subnet's router.
    Far,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OnLink, Self::Far];

    /// For the names of cases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnLink => "on-link",
            Self::Far => "far",
        }
    }

    /// The client's address.
    pub const fn address(self, family: Family) -> std::net::IpAddr {
        match self {
            Self::OnLink => family.plan().client,
            Self::Far => family.plan().far,
        }
    }
}

const fn nodad(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => " nodad",
    }
}
