//! Candidates against a played API server: no two may write at once, whatever their clocks say.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;

use super::candidate::Candidate;
use super::timing::Timing;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn timing() -> Timing {
    Timing::new(MS(3000), MS(2000), MS(500)).unwrap()
}

fn clock(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

fn held_by(holder: &str, seconds: Option<i32>, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: seconds,
        renew_time: Some(MicroTime(clock(renewed))),
        acquire_time: Some(MicroTime(clock(renewed))),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_lease_is_taken_when_it_is_free_given_up_or_has_not_changed_for_its_duration() {
    let start = Instant::now();
    // The Lease; milliseconds from the first look at it to the claim; whether the claim is made.
    let cases = [
        ("given up", held_by("", Some(1), 0), 0, true),
        ("just seen, though its times are ages old", held_by("b", Some(3), -90_000_000), 2999, false),
        ("just seen, its times in the future", held_by("b", Some(3), 90_000_000), 2999, false),
        ("unchanged for its duration", held_by("b", Some(3), 90_000_000), 3000, true),
        ("its holder promised less", held_by("b", Some(1), 0), 1000, true),
        ("its holder promised more", held_by("b", Some(60), 0), 59_999, false),
        ("no promise: our own duration", held_by("b", None, 0), 2999, false),
        ("no promise: our own duration", held_by("b", Some(0), 0), 3000, true),
        ("ours", held_by("a", Some(3), 0), 0, true),
    ];
    for (name, spec, waited, claimed) in cases {
        let mut candidate = Candidate::new("a".into(), timing());
        candidate.see(&spec, start);
        candidate.see(&spec, start + MS(waited));
        let claim = candidate.claim(true, start + MS(waited), clock(5));
        assert_eq!(claim.is_some(), claimed, "{name}");
    }
}

#[test]
fn a_claim_says_since_when_and_how_often_the_holder_changed() {
    let start = Instant::now();
    let mut candidate = Candidate::new("a".into(), timing());
    let first = candidate.claim(false, start, clock(0)).unwrap();
    assert_eq!(
        (first.lease_transitions, first.lease_duration_seconds, first.acquire_time.as_ref()),
        (Some(0), Some(3), Some(&MicroTime(clock(0))))
    );
    candidate.see(&first, start);
    assert!(candidate.leads());
    let renewed = candidate.claim(true, start, clock(500)).unwrap();
    assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(0), Some(MicroTime(clock(0)))));
    assert_eq!(renewed.renew_time, Some(MicroTime(clock(500))));

    let mut other = Candidate::new("b".into(), timing());
    assert!(other.release(clock(0)).is_none());
    other.see(&held_by("a", Some(1), 0), start);
    let taken = other.claim(true, start + MS(1000), clock(9)).unwrap();
    assert_eq!((taken.lease_transitions, taken.acquire_time.clone()), (Some(5), Some(MicroTime(clock(9)))));
    assert!(other.release(clock(0)).is_none(), "it is not ours before it is written");
    other.see(&taken, start + MS(1000));
    let released = other.release(clock(10)).unwrap();
    assert_eq!((released.holder_identity, released.lease_transitions), (None, Some(5)));
}

/// A time that comes again is no renewal to those who did not see what was between.
#[test]
fn each_renewal_is_later_than_the_one_before_though_the_clock_stands_still_or_is_set_back() {
    let start = Instant::now();
    let mut candidate = Candidate::new("a".into(), timing());
    let mut last = None;
    for time in [0, 0, 0, -50_000, 0, 1] {
        let claim = candidate.claim(last.is_some(), start, clock(time)).unwrap();
        candidate.see(&claim, start);
        assert!(claim.renew_time > last, "{last:?} then {:?}", claim.renew_time);
        last = claim.renew_time;
    }
}

#[test]
fn a_lease_that_somebody_deleted_still_has_a_holder() {
    let start = Instant::now();
    let mut candidate = Candidate::new("a".into(), timing());
    candidate.see(&held_by("b", Some(3), 0), start);
    assert!(candidate.claim(false, start + MS(2999), clock(0)).is_none());
    assert!(candidate.claim(false, start + MS(3000), clock(0)).is_some());
}

/// The played API server: the Lease and how often it was written.
#[derive(Default)]
struct Server {
    lease: Option<LeaseSpec>,
    version: u64,
}

impl Server {
    /// Writes if nobody else has since `version`; like the real one, it does not count a write that changes nothing.
    fn write(&mut self, version: u64, spec: &LeaseSpec) -> bool {
        if version != self.version {
            return false;
        }
        if self.lease.as_ref() != Some(spec) {
            self.lease = Some(spec.clone());
            self.version += 1;
        }
        true
    }
}

/// What a candidate is in the middle of.
enum Stage {
    Idle,
    /// The answer to its read is on the way.
    Read {
        lease: Option<LeaseSpec>,
        version: u64,
    },
    /// It has decided, and has not sent its write yet.
    Decided {
        spec: LeaseSpec,
        version: u64,
    },
    /// Its write is on the way to the server.
    Sent {
        at: Instant,
        spec: LeaseSpec,
        version: u64,
    },
    /// The answer is on the way back.
    Answered {
        at: Instant,
        spec: LeaseSpec,
        good: bool,
    },
}

struct Player {
    candidate: Candidate,
    stage: Stage,
    /// Until when it may write.
    until: Option<Instant>,
    /// Of its time of day, milliseconds.
    skew: i64,
    frozen: bool,
}

impl Player {
    fn new(skew: i64, frozen: bool, name: &str) -> Self {
        let candidate = Candidate::new(name.to_owned(), timing());
        Self { candidate, stage: Stage::Idle, until: None, skew, frozen }
    }

    fn clock(&self, passed: Duration) -> Timestamp {
        let passed = if self.frozen { 0 } else { i64::try_from(passed.as_millis()).unwrap() };
        clock(self.skew + passed)
    }

    /// Killed, and started anew under another name.
    fn crash(&mut self) {
        let name = format!("{}'", self.candidate.identity());
        *self = Self::new(self.skew, self.frozen, &name);
    }

    /// Goes on by one stage, which has taken until `now`.
    fn step(&mut self, server: &mut Server, start: Instant, now: Instant) {
        let clock = self.clock(now - start);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => Stage::Read { lease: server.lease.clone(), version: server.version },
            Stage::Read { lease, version } => {
                if let Some(spec) = &lease {
                    self.candidate.see(spec, now);
                }
                match self.candidate.claim(lease.is_some(), now, clock) {
                    Some(spec) => Stage::Decided { spec, version },
                    None => {
                        self.until = None;
                        Stage::Idle
                    }
                }
            }
            Stage::Decided { spec, version } => Stage::Sent { at: now, spec, version },
            Stage::Sent { at, spec, version } => {
                let good = server.write(version, &spec);
                Stage::Answered { at, spec, good }
            }
            Stage::Answered { at, spec, good } => {
                if good {
                    self.candidate.see(&spec, now);
                    self.until = Some(at + timing().renew_deadline());
                }
                Stage::Idle
            }
        };
    }

    fn may_write(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step {
        who: usize,
        after: u64,
    },
    Crash(usize),
    /// Nothing happens for some milliseconds.
    Pause(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        40 => (0..2usize, 0..600u64).prop_map(|(who, after)| Event::Step { who, after }),
        1 => (0..2usize).prop_map(Event::Crash),
        2 => (0..4000u64).prop_map(Event::Pause),
    ]
}

proptest! {
    #[test]
    fn two_candidates_with_any_clocks_never_lead_at_once(
        skews in prop::array::uniform2(-100_000_000..100_000_000i64),
        frozen in prop::array::uniform2(any::<bool>()),
        events in prop::collection::vec(event(), 1..300),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut server = Server::default();
        let mut players = [Player::new(skews[0], frozen[0], "a"), Player::new(skews[1], frozen[1], "b")];
        for event in events {
            match event {
                Event::Step { who, after } => {
                    now += MS(after);
                    players[who].step(&mut server, start, now);
                }
                Event::Crash(who) => players[who].crash(),
                Event::Pause(time) => now += MS(time),
            }
            prop_assert!(!players.iter().all(|player| player.may_write(now)), "both lead");
        }
    }

    #[test]
    fn a_candidate_left_alone_leads_in_the_end(skew in -100_000_000..100_000_000i64, waits in prop::collection::vec(1..800u64, 80)) {
        let start = Instant::now();
        let mut server = Server { lease: Some(held_by("dead", Some(3), 0)), version: 7 };
        let mut player = Player::new(skew, false, "a");
        let mut now = start;
        // Five stages a round; the Lease lasts 3 s from the first look.
        let mut led = false;
        while now < start + MS(12_000) {
            for wait in &waits {
                now += MS(*wait);
                player.step(&mut server, start, now);
                led |= player.may_write(now);
            }
        }
        prop_assert!(led);
    }
}
