//! What a gateway says of itself: one model behind `status`, `/readyz` and `/metrics`, so that they cannot disagree.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config;

/// The whole picture at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the process that made this picture.
    pub version: String,
    /// Which gateway: the name of its folder in the BPF file system.
    pub gateway_id: String,
    /// The running daemon; absent when the picture was taken from the pinned maps alone.
    pub process: Option<Process>,
    /// Whether packets to every VIP of the configuration in force are served.
    pub ready: bool,
    /// Why not, one sentence each; empty when ready.
    pub not_ready: Vec<String>,
    /// The configuration file and what became of it; absent when no daemon runs.
    pub config: Option<ConfigFile>,
    /// The external and the cluster interface.
    pub interfaces: Vec<Interface>,
    /// The programs and whether the kernel has them on their devices.
    pub programs: Vec<Program>,
    /// By which hook packets from clients are taken; absent while nothing is served, and when no daemon runs.
    #[serde(default)]
    pub attach: Option<Attach>,
    /// Whether packets to targets are handed over; absent as `attach` is.
    #[serde(default)]
    pub handover: Option<Handover>,
    /// VIPs of the configuration in force.
    pub vips: Vec<Vip>,
    /// Service ports, in the order of the file.
    pub services: Vec<ServicePort>,
    /// Flow tables, one of each family in use.
    pub flow_tables: Vec<FlowTable>,
    /// Kernel memory of all maps, bytes.
    pub map_memory_bytes: u64,
    /// Packets dropped, by reason, in the order of the map; every reason is listed.
    pub drops: Vec<Drop>,
    /// The sweep; absent when no daemon runs.
    pub sweep: Option<Sweep>,
    /// What does not work but does not stop the service: failed netlink operations, unreachable next hops.
    pub problems: Vec<String>,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id, in the daemon's own PID namespace.
    pub pid: u32,
    /// When it started.
    #[serde(with = "rfc3339")]
    pub started_at: SystemTime,
}

/// The configuration file and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// The file that is watched.
    pub path: PathBuf,
    /// Counts the edits that this process has taken into force; 0: none yet.
    pub generation: u64,
    /// Where the configuration in force came from.
    pub origin: Origin,
    /// When the configuration in force was applied; absent while it has not been.
    #[serde(with = "rfc3339::option")]
    pub applied_at: Option<SystemTime>,
    /// Whether the file as it is now is in force.
    pub last_reload_successful: bool,
    /// Edits refused since the start.
    pub rejections: u64,
    /// The last refusal, kept until the file is good again.
    pub refusal: Option<Refusal>,
}

/// Where the configuration in force came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// There is none: the file was never good.
    None,
    /// The file.
    File,
    /// The copy of the last good file: the file was already bad when the daemon started.
    LastGoodCopy,
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// When it was first read.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// Every fault found, with line, field and fix.
    pub error: String,
}

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Where clients come from, `net1`.
    External,
    /// Where targets are, `eth0`.
    Cluster,
}

impl Role {
    /// The name that metrics and tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Cluster => "cluster",
        }
    }
}

/// One of the two interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// What it is for.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its index; absent while there is no such interface.
    pub ifindex: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// MTU in bytes of IP.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<ipnet::IpNet>,
}

/// One program on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the program, as `bpftool` shows it.
    pub name: String,
    /// The device.
    pub interface: String,
    /// The hook, for example `ingress`.
    pub hook: String,
    /// How it is attached: `tcx`, `clsact` or `xdp`.
    pub mode: String,
    /// Whether the device says so now.
    pub attached: bool,
}

/// By which hook packets from clients are taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What the gateway file asks for.
    pub wanted: config::Attach,
    /// What is.
    pub mode: AttachMode,
    /// Why, in one sentence.
    pub reason: String,
}

impl Attach {
    /// Whether the file asks for XDP and there is none.
    pub fn falls_short(&self) -> bool {
        self.wanted == config::Attach::Xdp && self.mode == AttachMode::Tc
    }
}

/// Whether packets to targets are handed to the other end of the cluster interface rather than sent by it, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Whether they are; `None`: it is still being found out, of one family at least.
    pub used: Option<bool>,
    /// Why, in one sentence.
    pub reason: String,
}

/// A hook on the external interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// tc alone.
    Tc,
    /// XDP for established flows, tc for everything else.
    Xdp,
}

impl AttachMode {
    /// As `status` and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// A VIP and whether the external interface has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// The address with the prefix length of its subnet.
    pub address: ipnet::IpNet,
    /// The subnet's router.
    pub gateway: Option<IpAddr>,
    /// Whether the external interface has the address now.
    pub present: bool,
}

/// One port of one service, on all its VIPs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `<namespace>/<name>`.
    pub service: String,
    /// The VIPs.
    pub vips: Vec<IpAddr>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port of the VIPs.
    pub port: u16,
    /// The port's name.
    pub port_name: Option<String>,
    /// Where packets go.
    pub targets: Vec<std::net::SocketAddr>,
    /// Traffic since the service port was made.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Traffic of one service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets from clients.
    pub forward_packets: u64,
    /// IP bytes from clients.
    pub forward_bytes: u64,
    /// Packets from targets.
    pub reverse_packets: u64,
    /// IP bytes from targets.
    pub reverse_bytes: u64,
    /// Flows made.
    pub flows_opened: u64,
    /// Flows in the table.
    pub flows_active: u64,
}

/// How full a flow table is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowTable {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Flows in the table when the sweep last went through it, at most some ten seconds ago; without a
    /// daemon: now.
    pub entries: u64,
    /// Flows that fit.
    pub capacity: u64,
}

impl FlowTable {
    /// Share in use, percent.
    pub fn percent(&self) -> f64 {
        if self.capacity == 0 { 0.0 } else { self.entries as f64 * 100.0 / self.capacity as f64 }
    }
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Name of the reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// What the sweep has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Passes through the tables since the start of the daemon.
    pub passes: u64,
    /// Entries deleted since the start of the daemon.
    pub deleted: u64,
    /// Seconds that the last pass took from its first slice to its last.
    pub last_seconds: f64,
    /// Seconds of those on the CPU.
    pub last_busy_seconds: f64,
    /// When the last pass ended.
    #[serde(with = "rfc3339::option")]
    pub last_at: Option<SystemTime>,
    /// Why the last slice failed, if it did.
    pub error: Option<String>,
}

/// Times as RFC 3339 in UTC, to the second.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub mod option {
        use super::{Deserialize, Deserializer, Error, Serializer, SystemTime};

        pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            Option::<String>::deserialize(deserializer)?
                .map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom))
                .transpose()
        }
    }
}

/// A status with something in every part, for tests of those that show it.
#[cfg(test)]
pub(crate) fn sample() -> Status {
    Status {
        version: "1.2.3".into(),
        gateway_id: "gw".into(),
        process: Some(Process { pid: 7, started_at: SystemTime::UNIX_EPOCH }),
        ready: true,
        not_ready: vec![],
        config: Some(ConfigFile {
            path: "/etc/sluice/gateway.yaml".into(),
            generation: 4,
            origin: Origin::File,
            applied_at: Some(SystemTime::UNIX_EPOCH),
            last_reload_successful: false,
            rejections: 1,
            refusal: Some(Refusal { at: SystemTime::UNIX_EPOCH, error: "line 3: port: 0 is no port".into() }),
        }),
        interfaces: vec![Interface {
            role: Role::External,
            name: "net1".into(),
            ifindex: Some(4),
            up: true,
            mtu: 1500,
            addresses: vec!["172.18.0.18/16".parse().unwrap()],
        }],
        programs: vec![Program {
            name: "forward_v4".into(),
            interface: "net1".into(),
            hook: "ingress".into(),
            mode: "tcx".into(),
            attached: true,
        }],
        attach: Some(Attach {
            wanted: config::Attach::Auto,
            mode: AttachMode::Tc,
            reason: "net1 is a macvlan".into(),
        }),
        handover: Some(Handover { used: Some(true), reason: "eth0 is a veth".into() }),
        vips: vec![Vip { address: "172.18.0.18/16".parse().unwrap(), gateway: None, present: true }],
        services: vec![ServicePort {
            service: "default/test".into(),
            vips: vec!["172.18.0.18".parse().unwrap()],
            protocol: "tcp".into(),
            port: 80,
            port_name: None,
            targets: vec!["10.109.201.193:80".parse().unwrap()],
            counters: Counters {
                forward_packets: 11,
                forward_bytes: 1100,
                reverse_packets: 22,
                reverse_bytes: 2200,
                flows_opened: 5,
                flows_active: 2,
            },
        }],
        flow_tables: vec![FlowTable { family: "ipv4".into(), entries: 2, capacity: 8 }],
        map_memory_bytes: 4096,
        drops: vec![Drop { reason: "no_flow".into(), packets: 3 }],
        sweep: Some(Sweep::default()),
        problems: vec![],
    }
}
