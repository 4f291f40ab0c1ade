//! Which packets are made, and what must become of them. Pure.

use std::net::IpAddr;

use sluice_bench_ebpf::{Expected, HEADERS, MAGIC, SIZES, Traffic};
use sluice_tests::addresses::{Family, Plan};
use sluice_tests::gateway::{Port, Service, Spec};
use sluice_tests::kube_proxy::Protocol;
use sluice_tests::topology::NET1_MAC;

/// The first service port of the VIP.
pub const FIRST_PORT: u16 = 8000;
/// The first service port of the ClusterIP.
pub const FIRST_TARGET_PORT: u16 = 20000;
/// Source port of the first flows.
const FIRST_CLIENT_PORT: u16 = 16384;
/// TTL or hop limit of what is sent.
const HOPS: u8 = 64;
/// From one packet's flow to the next one's: far away, so that no packet finds what the one before has just brought into the cache.
const STRIDE: u32 = 618_033;

/// Sizes of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// The least: 60 bytes (IPv6: 78, since the sink's mark has to fit).
    Least,
    /// The usual mix: 7 of the least, 4 of 590, 1 of 1514 bytes.
    Imix,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// IP family.
    pub family: Family,
    /// Number of flows, at most a million.
    pub flows: u32,
    /// Number of service ports that they are spread over.
    pub ports: u16,
    /// Sizes of the frames.
    pub sizes: Sizes,
    /// Whether packets say when they were made, so that the sink counts latencies.
    pub stamped: bool,
}

impl Workload {
    /// The usual: IPv4, 1000 flows to one port, 60 bytes.
    pub const USUAL: Self =
        Self { family: Family::V4, flows: 1000, ports: 1, sizes: Sizes::Least, stamped: false };

    /// Bytes of the largest frame.
    pub const fn largest(&self) -> usize {
        match self.sizes {
            Sizes::Least => least(self.family) as usize,
            Sizes::Imix => 1514,
        }
    }

    /// What the generator is to make. `device`: where frames are sent; 0: the device of the run receives them.
    pub fn traffic(&self, translation: Translation, device: u32) -> Traffic {
        let (least, plan) = (least(self.family), self.family.plan());
        let destination = translation.destination(&plan);
        let sizes = match self.sizes {
            Sizes::Least => [least; SIZES],
            // The large ones among the others, as they come.
            Sizes::Imix => [least, 590, least, least, 590, least, 1514, least, 590, least, 590, least],
        };
        let headers = headers(client_base(self.family), destination);
        let network_sum = if self.family == Family::V4 { sum(&headers[14..34]) } else { 0 };
        let addresses = if self.family == Family::V4 { &headers[26..34] } else { &headers[22..54] };
        let protocol = u32::from(17_u16.to_be());
        Traffic {
            headers: bytemuck::cast(headers),
            network_sum,
            transport_sum: fold(
                u64::from(sum(addresses)) + u64::from(protocol) + u64::from(sum(&MAGIC.to_ne_bytes())),
            ),
            is_v6: (self.family == Family::V6).into(),
            flows: self.flows,
            stride: STRIDE % self.flows,
            ports: self.ports.into(),
            first_port: translation.first_sent_port().into(),
            first_client_port: FIRST_CLIENT_PORT.into(),
            device,
            sizes,
            stamped: self.stamped.into(),
            largest: self.largest() as u32,
        }
    }

    /// What must arrive. `generation`: see [`Expected::generation`].
    pub fn expected(&self, translation: Translation, generation: u32) -> Expected {
        let plan = self.family.plan();
        let (source, source_mask, destination, first_port) = match translation {
            Translation::Full => (plan.pod, [u32::MAX; 4], plan.cluster_ip, FIRST_TARGET_PORT),
            Translation::Routed | Translation::None => {
                let mut mask = [u32::MAX; 4];
                let last = if self.family == Family::V4 { 0 } else { 3 };
                mask[last] = 0xffff_ff00_u32.to_be();
                let destination = translation.destination(&plan);
                (client_base(self.family), mask, destination, translation.first_sent_port())
            }
        };
        Expected {
            destination: words(destination),
            source: words(source),
            source_mask,
            ports: self.ports.into(),
            first_port: first_port.into(),
            hops: u32::from(HOPS) - u32::from(translation != Translation::None),
            generation: if translation == Translation::Full { generation } else { 0 },
        }
    }
}

/// What a contender does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Destination and source are translated, and the packet is routed.
    Full,
    /// It is routed. It is sent to the ClusterIP.
    Routed,
    /// Nothing.
    None,
}

impl Translation {
    const fn destination(self, plan: &Plan) -> IpAddr {
        match self {
            Self::Full | Self::None => plan.vip,
            Self::Routed => plan.cluster_ip,
        }
    }

    const fn first_sent_port(self) -> u16 {
        match self {
            Self::Full | Self::None => FIRST_PORT,
            Self::Routed => FIRST_TARGET_PORT,
        }
    }
}

/// A service with this many UDP ports.
pub fn service(ports: u16) -> Spec {
    let ports: Vec<Port> = (0..ports)
        .map(|index| Port {
            protocol: Protocol::Udp,
            port: FIRST_PORT + index,
            target_port: FIRST_TARGET_PORT + index,
        })
        .collect();
    Spec { services: vec![Service::new(&ports)], ..Spec::default() }
}

/// The smallest frame that the sink's mark fits into, bytes.
const fn least(family: Family) -> u16 {
    match family {
        Family::V4 => 60,
        Family::V6 => 78,
    }
}

/// The clients' addresses, with zero as the last byte. In the external subnet, and nobody else's.
fn client_base(family: Family) -> IpAddr {
    match family {
        Family::V4 => [172, 18, 16, 0].into(),
        Family::V6 => [0x2001, 0xdb8, 0x18, 0, 0, 0, 0, 0x1600].into(),
    }
}

/// Ethernet, IP and UDP headers, with zero for what differs from packet to packet.
fn headers(source: IpAddr, destination: IpAddr) -> [u8; HEADERS] {
    let mut bytes = [0; HEADERS];
    for (byte, text) in bytes.iter_mut().zip(NET1_MAC.split(':')) {
        *byte = u8::from_str_radix(text, 16).unwrap_or_default();
    }
    // A locally administered address.
    bytes[6] = 2;
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes[12..14].copy_from_slice(&[0x08, 0x00]);
            bytes[14] = 0x45;
            // Don't fragment.
            bytes[20] = 0x40;
            (bytes[22], bytes[23]) = (HOPS, 17);
            bytes[26..30].copy_from_slice(&source.octets());
            bytes[30..34].copy_from_slice(&destination.octets());
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
            bytes[14] = 0x60;
            (bytes[20], bytes[21]) = (17, HOPS);
            bytes[22..38].copy_from_slice(&octets(source));
            bytes[38..54].copy_from_slice(&octets(destination));
        }
    }
    bytes
}

/// An address in the words of [`Expected`].
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(address) => [u32::from_ne_bytes(address.octets()), 0, 0, 0],
        IpAddr::V6(address) => bytemuck::cast(address.octets()),
    }
}

/// One's complement sum of words as they lie in memory.
fn sum(bytes: &[u8]) -> u32 {
    fold(bytes.chunks_exact(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum())
}

fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_flows_is_walked_through() {
        for flows in [1, 1000, 100_000, 1_000_000] {
            let traffic = Workload { flows, ..Workload::USUAL }.traffic(Translation::Full, 0);
            let mut seen = vec![false; flows as usize];
            let mut flow = 0;
            for _ in 0..flows {
                seen[flow as usize] = true;
                flow = (flow + traffic.stride) % flows;
            }
            assert!(seen.iter().all(|seen| *seen), "{flows}");
        }
    }

    #[test]
    fn a_million_flows_have_source_ports() {
        let traffic =
            Workload { flows: 1_000_000, ports: 32, ..Workload::USUAL }.traffic(Translation::Full, 0);
        assert!(traffic.first_client_port + (traffic.flows - 1) / traffic.ports <= 65535);
    }
}
