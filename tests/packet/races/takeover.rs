//! A reservation that may change hands, and everybody who has to do with it.

use std::collections::{HashMap, HashSet};

use sluice_gateway_ebpf::{
    conntrack::{FLOOD_CANDIDATES, State},
    maps::{Activity, SWEEP_EXPIRED, SWEEP_FLUSH, SWEEP_REPLIES},
    ports::{Sequence, client_hash},
};

use super::{
    ANSWER_SEQUENCE, Peer, TCP, UDP, answer, audit, contest, drain, receiver, reply_key, rounds, settle,
    translated,
};
use crate::rig::{Context, Net, REDIRECT, Rig, client, clock, sweep_request};

both_families!(expired, expired_datagrams, half_open, closed);

/// Contests in one round.
const BATCH: usize = 12;

/// Who meets the newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    /// Another newcomer.
    Newcomer,
    /// The owner opens its flow again.
    Repeats,
    /// The owner completes its handshake.
    Acknowledges,
    /// The target sends to the port.
    Target,
    /// The sweep, about the owner's flow.
    SweepsFlow,
    /// The sweep, about the reservation.
    SweepsReply,
    /// The sweep, which flushes the owner's flow.
    Flushes,
}

impl Rival {
    /// The program that it runs.
    fn program(self) -> &'static str {
        match self {
            Self::Newcomer | Self::Repeats | Self::Acknowledges => "forward",
            Self::Target => "reverse",
            Self::SweepsFlow | Self::SweepsReply | Self::Flushes => "sweep",
        }
    }

    /// The frame that it runs it with.
    fn frame<N: Net>(self, contest: &Contest<N>) -> Vec<u8> {
        let Contest { owner, other, .. } = contest;
        match self {
            Self::Newcomer => other.first(),
            Self::Repeats => owner.first(),
            Self::Acknowledges => owner.segment("A", ANSWER_SEQUENCE + 1),
            Self::Target => answer::<N>(owner.protocol, owner.port),
            Self::SweepsFlow => sweep_request(SWEEP_EXPIRED, &[owner.flow_key()]),
            Self::Flushes => sweep_request(SWEEP_FLUSH, &[owner.flow_key()]),
            Self::SweepsReply => sweep_request(SWEEP_REPLIES, &[reply_key::<N>(owner.protocol, owner.port)]),
        }
    }
}

/// One contest: the newcomer's first ports are all taken, and it will want the owner's, which is its own port.
struct Contest<N: Net> {
    newcomer: Peer<N>,
    other: Peer<N>,
    owner: Peer<N>,
    /// Owners of the ports that the newcomer tries next.
    bystanders: Vec<Peer<N>>,
}

/// Puts contests together whose ports do not meet.
fn contests<N: Net>(protocol: u8) -> Vec<Contest<N>> {
    let mut taken: HashSet<u16> = HashSet::new();
    let mut number = 0;
    let mut next = |port| {
        number += 1;
        Peer::<N> { address: client::<N>(number), port, protocol }
    };
    let mut contests = Vec::new();
    let mut port = 20_000;
    while contests.len() < BATCH {
        port += 1;
        let (newcomer, other) = (next(port), next(port));
        let sequence = Sequence::new(port, client_hash(&newcomer.flow_key()));
        let ports: Vec<_> = (0..FLOOD_CANDIDATES).map(|index| sequence.nth(index)).collect();
        if ports.iter().any(|port| taken.contains(port)) {
            continue;
        }
        taken.extend(&ports);
        let owner = next(port);
        let bystanders = ports[1..].iter().map(|port| next(*port)).collect();
        contests.push(Contest { newcomer, other, owner, bystanders });
    }
    contests
}

/// Opens the flows of owners and bystanders; the owners' are the older ones.
fn occupy<N: Net>(rig: &mut Rig<N>, contests: &[Contest<N>], answered: bool) {
    let open = |rig: &Rig<N>, peer: &Peer<N>| {
        assert_eq!(translated::<N>(&rig.forward(&peer.first())), Some(peer.port), "{peer:?}");
        if answered {
            assert_eq!(rig.reverse(&answer::<N>(peer.protocol, peer.port)).verdict, REDIRECT);
        }
    };
    contests.iter().for_each(|contest| open(rig, &contest.owner));
    rig.age(3);
    contests.iter().flat_map(|contest| &contest.bystanders).for_each(|peer| open(rig, peer));
}

/// Runs contests of `protocol` against `rival`. `prepare` makes the owners' flows what they are to be.
fn run<N: Net>(protocol: u8, rival: Rival, answered: bool, prepare: fn(&mut Rig<N>)) {
    let mut rig = Rig::<N>::with_flows(4096);
    let mut taken = 0;
    rounds(|_| {
        let contests = contests::<N>(protocol);
        occupy(&mut rig, &contests, answered);
        prepare(&mut rig);
        audit(&mut rig);
        let newcomers: Vec<_> = contests.iter().map(|contest| contest.newcomer.first()).collect();
        let rivals: Vec<_> = contests.iter().map(|contest| rival.frame(contest)).collect();
        let outcomes = contest(
            contests.len(),
            |i| rig.forward(&newcomers[i]),
            |i| rig.run(rival.program(), &rivals[i], Context::default()),
        );
        audit(&mut rig);
        let states: HashMap<_, _> =
            rig.flows().into_iter().map(|(key, flow)| (bytemuck::bytes_of(&key).to_vec(), flow)).collect();
        for (contest, (newcomer, other)) in contests.iter().zip(&outcomes) {
            let got = translated::<N>(newcomer);
            taken += u32::from(got == Some(contest.owner.port));
            match rival {
                Rival::Newcomer => {
                    let others = translated::<N>(other);
                    assert!(got != others || got.is_none(), "one port for two newcomers: {got:?}");
                }
                Rival::Acknowledges => {
                    let key = contest.owner.flow_key();
                    let kept = states.get(bytemuck::bytes_of(&key)).map(|flow| flow.state);
                    if kept == Some(State::Established as u8) {
                        assert_ne!(got, Some(contest.owner.port), "an established flow lost its port");
                    }
                }
                Rival::Target => {
                    let parties = [contest.newcomer, contest.owner].map(|peer| peer.end());
                    let to = receiver::<N>(other);
                    assert!(to.is_none_or(|to| parties.contains(&to)), "neither the one nor the other");
                }
                Rival::Repeats | Rival::SweepsFlow | Rival::SweepsReply | Rival::Flushes => {}
            }
        }
        let parties: Vec<_> = contests.iter().flat_map(|c| [c.newcomer, c.owner, c.other]).collect();
        settle(&rig, &parties);
        audit(&mut rig);
        drain(&mut rig);
    });
    assert!(taken > 0, "{rival:?}: no reservation was taken over");
}

/// Flows whose time is over.
fn expired<N: Net>() {
    for rival in [Rival::Newcomer, Rival::Repeats, Rival::Target, Rival::SweepsFlow, Rival::SweepsReply] {
        run::<N>(TCP, rival, true, |rig| rig.age(61));
    }
}

fn expired_datagrams<N: Net>() {
    for rival in [Rival::Newcomer, Rival::Repeats, Rival::Target, Rival::SweepsFlow, Rival::SweepsReply] {
        run::<N>(UDP, rival, false, |rig| rig.age(31));
    }
}

/// Handshakes that the clients have not completed.
fn half_open<N: Net>() {
    for rival in [Rival::Newcomer, Rival::Repeats, Rival::Acknowledges, Rival::Target, Rival::Flushes] {
        run::<N>(TCP, rival, true, |_| {});
    }
}

/// Connections that the target closed first, with the newcomer's sequence number ahead of theirs.
fn closed<N: Net>() {
    for rival in [Rival::Newcomer, Rival::Repeats, Rival::Target, Rival::Flushes] {
        run::<N>(TCP, rival, true, |rig| {
            let now = clock();
            for (key, mut flow) in rig.flows() {
                flow.state = State::ClosedByTarget as u8;
                flow.activity = Activity::new(now.wrapping_sub(Activity(flow.activity).idle(now)), 500).0;
                rig.put_flow(key, flow);
            }
        });
    }
}
