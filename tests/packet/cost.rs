//! What an established packet costs, beside programs that do no NAT, in one run.
//!
//! In a repeated test run each run finds the packet as the one before left it. So this flow's translation is the identity:
//! the target has the VIP's address and the source is the client's own. Each run does all the work of any other packet, and
//! only the TTL goes down, which bounds the repetitions of one measurement.

use std::path::PathBuf;

use aya::{Ebpf, maps::HashMap, programs::SchedClassifier};
use sluice_gateway_ebpf::{
    conntrack::State,
    family::{V4, V6},
    maps::{Flow, FlowKey},
};

use crate::{
    build::{Ip, Tcp, ip, read, tcp, tcp_bytes},
    rig::{Context, Net, REDIRECT, Rig, TARGET, VIP_PORT, test_run},
};

/// Runs per measurement; the TTL starts at 255.
const REPEAT: u32 = 250;
/// Measurements of each program.
const ROUNDS: usize = 400;
/// Attempts to stay within the limit, since another load on the machine slows map lookups more than the rest.
const ATTEMPTS: usize = 4;
/// What the hot path may cost, as a multiple of one lookup and a redirect.
const LIMIT: f64 = 2.0;

#[test]
fn established_packet_v4() {
    ratio::<V4>();
}

#[test]
fn established_packet_v6() {
    ratio::<V6>();
}

fn ratio<N: Net>() {
    let mut rig = Rig::<N>::new();
    rig.set_target(TARGET, |target| {
        target.address = N::VIP;
        target.snat = N::CLIENT;
        target.port = VIP_PORT;
    });
    establish(&rig);
    let segment = tcp_bytes::<N>(N::CLIENT, N::VIP, &Tcp { payload: &[7; 10], ..Tcp::default() });
    let frame = ip::<N>(N::CLIENT, N::VIP, 6, &segment, Ip { ttl: 255, ..Ip::default() });
    let yardstick = Yardstick::load::<N>(rig.flow());

    let ratios: Vec<_> = (0..ATTEMPTS).map(|_| measure(&rig, &yardstick, &frame)).collect();
    assert!(
        ratios.iter().any(|ratio| *ratio <= LIMIT),
        "{ratios:.2?} times one lookup and a redirect, more than {LIMIT}"
    );
}

/// Measures the programs in turn; the medians' ratio.
fn measure<N: Net>(rig: &Rig<N>, yardstick: &Yardstick, frame: &[u8]) -> f64 {
    let before = rig.stats();
    let [mut bare, mut lookup, mut ours] = [const { Vec::<u32>::new() }; 3];
    for _ in 0..ROUNDS {
        bare.push(test_run(yardstick.program("redirect"), frame, Context::default(), REPEAT).nanoseconds);
        lookup.push(
            test_run(yardstick.program(yardstick.lookup), frame, Context::default(), REPEAT).nanoseconds,
        );
        let outcome = rig.repeat("forward", frame, REPEAT);
        assert_eq!(outcome.verdict, REDIRECT);
        assert_eq!(u32::from(read(&outcome.frame).ttl), 255 - REPEAT, "a run that did not do its work");
        ours.push(outcome.nanoseconds);
    }
    let after = rig.stats();
    assert_eq!(after.forward_packets - before.forward_packets, u64::from(REPEAT) * ROUNDS as u64);
    assert_eq!(rig.state(), State::Established);

    let [bare, lookup, ours] = [bare, lookup, ours].map(median);
    let ratio = f64::from(ours) / f64::from(lookup);
    println!(
        "established packet, {}: {ours} ns; lookup and redirect {lookup} ns; bare redirect {bare} ns; ratio {ratio:.2}",
        N::SUFFIX
    );
    ratio
}

fn median(mut values: Vec<u32>) -> u32 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Takes a connection through its handshake.
fn establish<N: Net>(rig: &Rig<N>) {
    let client = |flags, acknowledgement| {
        tcp::<N>(N::CLIENT, N::VIP, &Tcp { flags, acknowledgement, ..Tcp::default() })
    };
    let answer = Tcp { source_port: VIP_PORT, destination_port: 40000, flags: "SA", ..Tcp::default() };
    assert_eq!(rig.forward(&client("S", 0)).verdict, REDIRECT);
    assert_eq!(rig.reverse(&tcp::<N>(N::VIP, N::CLIENT, &answer)).verdict, REDIRECT);
    assert_eq!(rig.forward(&client("A", answer.sequence + 1)).verdict, REDIRECT);
    assert_eq!(rig.state(), State::Established);
}

/// The yardstick programs.
struct Yardstick {
    ebpf: Ebpf,
    lookup: &'static str,
}

impl Yardstick {
    /// Loads them, with one entry in the map that is looked up.
    fn load<N: Net>((key, flow): (FlowKey<N::Addr>, Flow)) -> Self {
        let dir = std::env::var_os("SLUICE_EBPF_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf")),
            PathBuf::from,
        );
        let path = dir.join("sluice-yardstick");
        let mut ebpf = Ebpf::load_file(&path).unwrap_or_else(|error| {
            panic!("{}: {error}: run `cargo xtask build-ebpf` first", path.display())
        });
        for (name, program) in ebpf.programs_mut() {
            let program: &mut SchedClassifier = program.try_into().expect("a tc program");
            program.load().unwrap_or_else(|error| panic!("load {name}: {error}"));
        }
        let (map, lookup) = if N::IS_V4 { ("yardstick", "lookup_v4") } else { ("yardstick_v6", "lookup_v6") };
        let mut map: HashMap<_, FlowKey<N::Addr>, Flow> =
            ebpf.map_mut(map).expect("the map").try_into().expect("hash");
        map.insert(key, flow, 0).expect("fill the map");
        Self { ebpf, lookup }
    }

    fn program(&self, name: &str) -> &SchedClassifier {
        self.ebpf.program(name).expect("a program").try_into().expect("tc")
    }
}
