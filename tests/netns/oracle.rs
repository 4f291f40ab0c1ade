//! The same scripted traffic through Sluice and through the original's iptables rules.

use std::time::Instant;

use sluice_tests::gateway::{GatewayUnderTest, Iptables, Sluice};
use sluice_tests::record::{Allowed, Record, compare};
use sluice_tests::script::{self, Extent};
use sluice_tests::topology::{Builder, External, Topology};

fn observe<G: GatewayUnderTest>(
    make: impl FnOnce(&Topology) -> G,
    topology: Builder,
    extent: Extent,
) -> Record {
    let started = Instant::now();
    let topology = topology.build().unwrap();
    let mut gateway = make(&topology);
    gateway.serve(&topology, &script::spec()).unwrap();
    let record = script::run(&topology, extent).unwrap();
    if topology.is_for_xdp() && gateway.name() == "sluice" {
        let redirected = topology.redirected_by_xdp().unwrap();
        assert!(redirected > 10_000, "XDP has redirected {redirected} packets only");
    }
    println!("{}: {} cases in {:.1?}", gateway.name(), record.len(), started.elapsed());
    record
}

/// A network whose external side has the smaller MTU: replies are what does not fit.
fn narrow_outside() -> Builder {
    script::topology().external_mtu(1300)
}

/// The yardstick itself: the oracle agrees with itself, so what a comparison finds is not chance.
#[test]
fn the_oracle_agrees_with_itself() {
    let observe = || observe(|_| Iptables::mended(), narrow_outside(), Extent::Sizes);
    let complaints = compare(&observe(), &observe(), &[]);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The seed's own rules, faults included: what its pod sends by itself does not reach clients behind the router.
#[test]
fn sluice_answers_where_the_seed_does_not() {
    same_as(
        Iptables::seed(),
        script::topology(),
        Extent::Answers,
        &[
            SEED_IS_SILENT,
            Allowed { cases: "*/far/tcp/unserved port", ..SEED_IS_SILENT },
            Allowed { cases: "*/far/traceroute/tcp/2", ..SEED_IS_SILENT },
            Allowed { cases: "*/far/traceroute/udp/2", ..SEED_IS_SILENT },
            Allowed { cases: "*/far/path MTU", ..SEED_IS_SILENT },
            OPEN_CHECKSUMS_ARE_QUOTED,
            QUOTES_ARE_SHORTER,
        ],
    );
}

/// `net1` need not be a macvlan.
#[test]
fn nor_on_a_veth() {
    let topology = script::topology().external(External::Veth);
    same_as(Iptables::mended(), topology, Extent::Answers, &[QUOTES_ARE_SHORTER, OPEN_CHECKSUMS_ARE_QUOTED]);
}

/// XDP takes what the sender gave a checksum; what was left to a device goes by tc, and is the other tests' matter.
#[test]
fn nor_by_xdp() {
    let topology = script::topology().external(External::Veth).takes_xdp().full_checksums();
    same_as(Iptables::mended(), topology, Extent::Everything, &DIFFERENCES);
}

#[test]
fn sluice_cannot_be_told_from_netfilter() {
    same_as(Iptables::mended(), script::topology(), Extent::Everything, &DIFFERENCES);
}

#[test]
fn nor_where_replies_are_what_does_not_fit() {
    same_as(
        Iptables::mended(),
        narrow_outside(),
        Extent::Sizes,
        &[
            MSS_AT_THE_BACKEND,
            Allowed { field: "MSS at the client", ..MSS_AT_THE_BACKEND },
            FRAGMENTS_ARE_QUOTED,
        ],
    );
}

/// All that differs from the rules as they should be.
const DIFFERENCES: [Allowed; 6] = [
    MSS_AT_THE_BACKEND,
    later_before_first("*/*/fragments/a later one before the first"),
    later_before_first("*/*/fragments/backwards"),
    QUOTES_ARE_SHORTER,
    FRAGMENTS_ARE_QUOTED,
    UNKNOWN_IS_DROPPED,
];

const SEED_IS_SILENT: Allowed = Allowed {
    anchor: "the-seeds-own-packets-leave-by-the-wrong-link",
    cases: "*/far/ping/*",
    field: "*",
    holds: |ours, theirs| {
        let silent =
            ["[]", "Nothing", "Err(TimedOut)", "Ok(1500)"].contains(&theirs) || theirs.contains("not within");
        silent && ours != "Nothing" && !ours.contains("not within")
    },
};

const OPEN_CHECKSUMS_ARE_QUOTED: Allowed = Allowed {
    anchor: "quoted-checksums-are-complete",
    cases: "*/*/traceroute/*/*",
    field: "inner checksums",
    holds: |ours, theirs| (ours, theirs) == ("true", "false"),
};

const MSS_AT_THE_BACKEND: Allowed = Allowed {
    anchor: "mss-is-clamped",
    cases: "*/*/tcp/handshake",
    field: "MSS at the backend",
    holds: |ours, theirs| number(ours) < number(theirs),
};

const fn later_before_first(cases: &'static str) -> Allowed {
    Allowed {
        anchor: "a-later-fragment-before-the-first-is-dropped",
        cases,
        field: "*",
        holds: |ours, _| matches!(ours, "Nothing" | "[]" | "<none>"),
    }
}

const QUOTES_ARE_SHORTER: Allowed = Allowed {
    anchor: "packets-are-quoted-in-whole-words",
    cases: "*/*/traceroute/udp/*",
    field: "inner quoted",
    holds: |ours, theirs| number(ours) == number(theirs).map(|length| length / 4 * 4),
};

const UNKNOWN_IS_DROPPED: Allowed = Allowed {
    anchor: "unknown-tcp-connections-are-not-picked-up",
    cases: "*/*/tcp/unknown connection",
    field: "answer",
    holds: |ours, theirs| ours.starts_with("Err") && theirs.ends_with(":80, true))"),
};

const FRAGMENTS_ARE_QUOTED: Allowed = Allowed {
    anchor: "fragments-are-not-reassembled",
    cases: "v6/*/udp/no df/*",
    field: "inner length",
    holds: |ours, theirs| number(ours) < number(theirs),
};

/// The only number in a noted value.
fn number(value: &str) -> Option<u32> {
    value.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// Anchors of the document that describes the differences.
fn documented() -> Vec<String> {
    let document = include_str!("../../docs/netfilter-differences.md");
    let headings = document.lines().filter_map(|line| line.strip_prefix("### "));
    headings.map(|heading| heading.to_lowercase().replace(' ', "-").replace('\'', "")).collect()
}

fn same_as(oracle: Iptables, topology: Builder, extent: Extent, allowed: &[Allowed]) {
    let documented = documented();
    for entry in allowed {
        assert!(documented.iter().any(|anchor| anchor == entry.anchor), "not documented: {}", entry.anchor);
    }
    let ours = observe(|topology| Sluice::new(topology).unwrap(), topology.clone(), extent);
    let theirs = observe(|_| oracle, topology, extent);
    let complaints = compare(&ours, &theirs, allowed);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
