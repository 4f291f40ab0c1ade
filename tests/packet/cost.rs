//! What an established packet costs, beside programs that do no NAT, in one run.
//!
//! In a repeated test run each run finds the packet as the one before left it. So this flow's translation is the identity:
//! the target has the VIP's address and the source is the client's own. Each run does all the work of any other packet, and
//! only the TTL goes down, which bounds the repetitions of one measurement.

use aya::{Ebpf, maps::HashMap};
use sluice_figures::{Figure, Goal, Line, Value};
use sluice_gateway_ebpf::{
    conntrack::State,
    family::{V4, V6},
    maps::{Flow, FlowKey},
};

use crate::{
    build::{Ip, Tcp, ip, read, tcp, tcp_bytes},
    rig::{Context, Net, Outcome, REDIRECT, Rig, TARGET, VIP_PORT, test_run},
    test_run::{load_all, program as program_of, test_run_xdp},
};

/// `XDP_REDIRECT`
const XDP_REDIRECT: i32 = 4;
/// Runs per measurement; the TTL starts at 255.
const REPEAT: u32 = 250;
/// Measurements of each program.
const ROUNDS: usize = 1000;
/// What the hot path may cost, as a multiple of one lookup and a redirect.
const LIMIT: f64 = 1.6;

#[test]
fn established_packet_v4() {
    ratios::<V4>();
}

#[test]
fn established_packet_v6() {
    ratios::<V6>();
}

/// Compares in rounds of a few hundred microseconds: within one, the processor's clock and what else runs on the machine are the
/// same for every program. The median of the rounds' ratios then leaves out those that were interrupted.
fn ratios<N: Net>() {
    let mut rig = Rig::<N>::new();
    // The Ethernet header stays the same as well.
    rig.set_hop(|hop| (hop.destination, hop.source) = ([0; 6], [0; 6]));
    rig.set_target(TARGET, |target| {
        target.address = N::VIP;
        target.snat = N::CLIENT;
        target.port = VIP_PORT;
    });
    establish(&rig);
    let forward = segment::<N>((N::CLIENT, 40000), (N::VIP, VIP_PORT));
    let reverse = segment::<N>((N::VIP, VIP_PORT), (N::CLIENT, 40000));
    let yardstick = Yardstick::load::<N>(rig.flow());

    let before = rig.stats();
    let mut times = [const { Vec::<u32>::new() }; 7];
    for _ in 0..ROUNDS {
        times[0].push(yardstick.run("redirect", &forward));
        times[1].push(yardstick.run(yardstick.lookup, &forward));
        times[2].push(run(&rig, "forward", &forward));
        times[3].push(run(&rig, "reverse", &reverse));
        times[4].push(yardstick.run_xdp("xdp_redirect", &forward));
        times[5].push(yardstick.run_xdp(&format!("xdp_{}", yardstick.lookup), &forward));
        times[6].push(done(rig.xdp(&forward, REPEAT), XDP_REDIRECT));
    }
    let after = rig.stats();
    let runs = u64::from(REPEAT) * ROUNDS as u64;
    assert_eq!(after.forward_packets - before.forward_packets, 2 * runs, "at tc and at XDP");
    assert_eq!(after.reverse_packets - before.reverse_packets, runs);
    assert_eq!(rig.state(), State::Established);

    let ratio = |times: &[u32], yardstick: &[u32]| {
        median(times.iter().zip(yardstick).map(|(time, lookup)| f64::from(*time) / f64::from(*lookup)))
    };
    let forward_ratio = ratio(&times[2], &times[1]);
    let reverse_ratio = ratio(&times[3], &times[1]);
    let xdp_ratio = ratio(&times[6], &times[5]);
    let [bare, lookup, forward, reverse, xdp_bare, xdp_lookup, xdp] =
        times.map(|times| median(times.into_iter().map(f64::from)));
    println!(
        "established packet, {}: forward {forward} ns, {forward_ratio:.2} times; reverse {reverse} ns, {reverse_ratio:.2} times; \
         lookup and redirect {lookup} ns; bare redirect {bare} ns; at XDP: forward {xdp} ns, {xdp_ratio:.2} times; lookup and \
         redirect {xdp_lookup} ns; bare redirect {xdp_bare} ns",
        N::SUFFIX
    );
    if std::env::var_os("SLUICE_FIGURES").is_some() {
        tell(N::SUFFIX, [("forward", forward_ratio), ("reverse", reverse_ratio), ("XDP", xdp_ratio)]);
    }
    for (direction, ratio) in [("forward", forward_ratio), ("reverse", reverse_ratio), ("XDP", xdp_ratio)] {
        assert!(ratio <= LIMIT, "{direction}: {ratio:.2} times one lookup and a redirect, more than {LIMIT}");
    }
}

/// Tells a bench.
fn tell(family: &str, ratios: [(&str, f64); 3]) {
    for (direction, ratio) in ratios {
        Line::Figure(Figure {
            section: "CPU, established packet by test run, beside one lookup and a redirect".to_owned(),
            figure: direction.to_owned(),
            case: family.to_owned(),
            value: Value::from((ratio * 100.0).round() / 100.0).0,
            unit: "x".to_owned(),
            spread: None,
            goal: Some(Goal::at_most(LIMIT)),
        })
        .print();
    }
}

/// Nanoseconds of one run of ours, which must have done its work.
fn run<N: Net>(rig: &Rig<N>, program: &str, frame: &[u8]) -> u32 {
    done(rig.repeat(program, frame, REPEAT), REDIRECT)
}

/// Nanoseconds of one run, which must have done its work and end in `verdict`.
fn done(outcome: Outcome, verdict: i32) -> u32 {
    assert_eq!(outcome.verdict, verdict);
    assert_eq!(u32::from(read(&outcome.frame).ttl), 255 - REPEAT, "a run that did not do its work");
    outcome.nanoseconds
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A segment that survives all runs of one measurement.
fn segment<N: Net>(source: (N::Addr, u16), destination: (N::Addr, u16)) -> Vec<u8> {
    let tcp =
        Tcp { source_port: source.1, destination_port: destination.1, payload: &[7; 10], ..Tcp::default() };
    let bytes = tcp_bytes::<N>(source.0, destination.0, &tcp);
    ip::<N>(source.0, destination.0, 6, &bytes, Ip { ttl: 255, ..Ip::default() })
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
        let path = sluice_tests::objects::path("sluice-yardstick");
        let mut ebpf = Ebpf::load_file(&path).unwrap_or_else(|error| {
            panic!("{}: {error}: run `cargo xtask build-ebpf` first", path.display())
        });
        load_all(&mut ebpf);
        let (map, lookup) = if N::IS_V4 { ("yardstick", "lookup_v4") } else { ("yardstick_v6", "lookup_v6") };
        let mut map: HashMap<_, FlowKey<N::Addr>, Flow> =
            ebpf.map_mut(map).expect("the map").try_into().expect("hash");
        map.insert(key, flow, 0).expect("fill the map");
        Self { ebpf, lookup }
    }

    /// Nanoseconds of one run of an XDP program.
    fn run_xdp(&self, program: &str, frame: &[u8]) -> u32 {
        test_run_xdp(program_of(&self.ebpf, program), frame, REPEAT).nanoseconds
    }

    /// Nanoseconds of one run.
    fn run(&self, program: &str, frame: &[u8]) -> u32 {
        test_run(program_of(&self.ebpf, program), frame, Context::default(), REPEAT).nanoseconds
    }
}
