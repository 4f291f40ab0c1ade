//! Writing and reading again, and input that nobody would write.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::file::File;
use super::super::{Attach, Config, Gateway, Port, Protocol, Service, Timeouts, Vip, limits, parse};
use super::config;

fn address(v4: bool) -> BoxedStrategy<IpAddr> {
    if v4 {
        // Neither loopback, multicast, broadcast nor "this network".
        (0x0100_0000_u32..0x7f00_0000).prop_map(|bits| Ipv4Addr::from_bits(bits).into()).boxed()
    } else {
        any::<u64>()
            .prop_map(|bits| Ipv6Addr::from_bits((0xfd_u128 << 120) | u128::from(bits)).into())
            .boxed()
    }
}

fn range(v4: bool) -> impl Strategy<Value = IpNet> {
    let bits = if v4 { 32 } else { 128 };
    (address(v4), 0_u8..=bits).prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
}

/// A VIP in a subnet of 256 addresses that the index makes different from all others, and its gateway.
fn vip(v4: bool, index: u8) -> impl Strategy<Value = Vip> {
    (1_u8..=127, option::of(128_u8..=254)).prop_map(move |(host, router)| {
        let at = |host: u8| -> IpAddr {
            if v4 {
                Ipv4Addr::new(198, 51, index, host).into()
            } else {
                Ipv6Addr::new(0x2001, 0xdb8, index.into(), 0, 0, 0, 0, host.into()).into()
            }
        };
        let length = if v4 { 24 } else { 120 };
        Vip { address: IpNet::new(at(host), length).unwrap(), gateway: router.map(at) }
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let details = (option::of("[a-z0-9][a-z0-9-]{0,62}"), 1_u16..);
    btree_map((1_u16.., protocol()), details, 1..5).prop_map(|ports| {
        let port = |((port, protocol), (name, target)): ((u16, Protocol), (Option<String>, u16))| Port {
            name,
            protocol,
            port,
            target_port: if protocol == Protocol::Sctp { port } else { target },
        };
        ports.into_iter().map(port).collect()
    })
}

fn service(index: u8) -> impl Strategy<Value = Service> {
    let families = prop_oneof![Just(vec![true]), Just(vec![false]), Just(vec![true, false])];
    families.prop_flat_map(move |families| {
        let each = |family: fn(bool) -> BoxedStrategy<IpAddr>| {
            families.iter().map(|v4| family(*v4)).collect::<Vec<_>>()
        };
        let vips: Vec<_> = families.iter().map(|v4| vip(*v4, index)).collect();
        let ranges = proptest::sample::select(families.clone()).prop_flat_map(range);
        let snat = proptest::sample::subsequence(families.clone(), 0..=families.len())
            .prop_flat_map(|families| families.into_iter().map(address).collect::<Vec<_>>());
        (vips, each(address), snat, ports(), btree_set(ranges, 0..4)).prop_map(
            move |(vips, targets, snat, ports, ranges)| Service {
                name: format!("namespace-{index}/service"),
                vips,
                snat,
                targets,
                ports,
                source_ranges: ranges.into_iter().collect(),
            },
        )
    })
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    (vec(limits::SHORT_TIMEOUT, 7), vec(limits::LONG_TIMEOUT, 2)).prop_map(|(short, long)| Timeouts {
        tcp_half_open: short[0],
        tcp_fin: short[1],
        tcp_time_wait: short[2],
        tcp_closed: short[3],
        udp_unreplied: short[4],
        udp_stream: short[5],
        sctp_unreplied: short[6],
        tcp_established: long[0],
        sctp_established: long[1],
    })
}

fn gateway() -> impl Strategy<Value = Gateway> {
    let names = ("ext[a-z0-9._-]{0,12}", "int[a-z0-9._@-]{0,12}");
    let gateways = proptest::sample::subsequence(vec![true, false], 0..=2)
        .prop_flat_map(|families| families.into_iter().map(address).collect::<Vec<_>>());
    let attach = prop_oneof![Just(Attach::Auto), Just(Attach::Tc), Just(Attach::Xdp)];
    (names, gateways, limits::TABLE, 6_u32..=24, timeouts(), limits::ICMP_ERRORS_PER_SECOND, attach, 1_u16..)
        .prop_map(
            |((external, cluster), cluster_gateways, table, flows, timeouts, icmp, attach, admin_port)| {
                Gateway {
                    external_interface: external,
                    cluster_interface: cluster,
                    cluster_gateways,
                    table,
                    max_flows: 1 << flows,
                    timeouts,
                    icmp_errors_per_second: icmp,
                    attach,
                    admin_port,
                }
            },
        )
}

fn any_config() -> impl Strategy<Value = Config> {
    let services = (0_u8..4).prop_flat_map(|count| (0..count).map(service).collect::<Vec<_>>());
    (gateway(), services).prop_map(|(gateway, services)| Config { gateway, services })
}

proptest! {
    #[test]
    fn a_written_model_reads_the_same(model in any_config()) {
        let text = File::from(&model).to_yaml().unwrap();
        prop_assert_eq!(config(&text), model);
    }

    #[test]
    fn a_written_model_is_also_json(model in any_config()) {
        let text = serde_json::to_string(&File::from(&model)).unwrap();
        prop_assert_eq!(config(&text), model);
    }

    #[test]
    fn arbitrary_text_never_panics(text: String) {
        let _ = parse("f", &text);
    }

    #[test]
    fn arbitrary_bytes_in_a_good_file_never_panic(
        model in any_config(), bytes in vec(any::<u8>(), 1..8), at: proptest::sample::Index,
    ) {
        let mut text = File::from(&model).to_yaml().unwrap().into_bytes();
        let at = at.index(text.len());
        text.splice(at..(at + bytes.len()).min(text.len()), bytes);
        let _ = parse("f", &String::from_utf8_lossy(&text));
    }

    /// YAML's own characters meet in odd ways far more often here than in arbitrary text.
    #[test]
    fn yaml_soup_never_panics(text in "([ \n\t:,\\[\\]{}&*!|>'\"%@`#?~-]|version|services|name|1|0x|a){0,60}") {
        let _ = parse("f", &format!("version: 1\nservices: []\n{text}"));
        let _ = parse("f", &text);
    }
}
