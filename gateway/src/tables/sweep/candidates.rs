//! Which entries to name to the sweep programs. Pure, and generous: the program judges each again before it deletes.

use sluice_gateway_ebpf::{
    conntrack::State,
    maps::{
        Activity, Flow, FlowKey, Fragment, OWNER_LOCKED, Owner, ReplyKey, TARGET_DRAINING, TARGET_REMOVED,
        Target, Timeouts,
    },
};

use crate::{
    config::Protocol,
    tables::{address::IpBytes, plan::Admitted},
};

/// Seconds after which a reservation is looked at, whether a flow still names it. A younger one may belong to a flow that is
/// just being made.
const REPLY_REST: u32 = 2;
/// Idle seconds after which a reservation may have lost its flow without having been freed.
const REPLY_DOUBT: u32 = 10;
/// Of the reservations in doubt, most of which belong to idle connections, a pass has one in this many judged: to judge all
/// takes longer than to read the tables.
const DOUBT_SHARE: u32 = 8;
/// Seconds that a fragmented packet's entry is valid.
const FRAGMENT_LIFE: u32 = 30;

/// What to do with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Keep,
    /// Have it judged.
    Judge,
    /// Have it deleted.
    Flush,
}

/// Looks at a flow. `target` is the slot it names.
pub(super) fn flow<A: IpBytes>(
    key: &FlowKey<A>,
    flow: &Flow,
    target: &Target<A>,
    admitted: &Admitted<A>,
    timeouts: &Timeouts,
    now: u32,
) -> Fate {
    let lost = target.state == TARGET_REMOVED
        || target.state == TARGET_DRAINING && key.protocol == u32::from(Protocol::Udp.number());
    let timeout = State::from_raw(flow.state).timeout(timeouts);
    if !lost && admitted.get(&target.service).is_some_and(|ranges| !admits(ranges, key.client)) {
        Fate::Flush
    } else if lost || Activity(flow.activity).idle(now) >= timeout {
        Fate::Judge
    } else {
        Fate::Keep
    }
}

/// Whether one of `ranges`, ascending and without overlaps, has the client.
fn admits<A: IpBytes>(ranges: &[crate::tables::Prefix<A>], client: A) -> bool {
    let after = ranges.partition_point(|prefix| prefix.address <= client);
    after.checked_sub(1).is_some_and(|index| ranges[index].contains(client))
}

/// Whether to have a reservation judged, in the pass of the number `pass`.
pub(super) fn reply<A>(
    key: &ReplyKey<A>,
    owner: &Owner<A>,
    activity: Activity,
    target: &Target<A>,
    now: u32,
    pass: u32,
) -> bool {
    let idle = activity.idle(now);
    let unused = owner.target == 0 || owner.target == OWNER_LOCKED || target.state == TARGET_REMOVED;
    let turn = u32::from(key.snat_port) % DOUBT_SHARE == pass % DOUBT_SHARE;
    idle >= REPLY_REST && (unused || idle >= REPLY_DOUBT && turn)
}

/// Whether a fragment's entry may still send packets to its target.
pub(super) fn fragment_is_alive<A>(fragment: &Fragment<A>, now: u32) -> bool {
    now.wrapping_sub(fragment.created) <= FRAGMENT_LIFE
}

#[cfg(test)]
mod tests {
    use sluice_gateway_ebpf::maps::{TARGET_ACTIVE, TARGET_UNSET};

    use super::*;
    use crate::tables::Prefix;

    const NOW: u32 = 1_000;

    fn judge(state: State, protocol: u32, idle: u32, target: u8, admitted: &Admitted<[u8; 4]>) -> Fate {
        let key = FlowKey { client: [10, 1, 2, 3], protocol, ..FlowKey::default() };
        let value = Flow { state: state as u8, activity: Activity::new(NOW - idle, 77).0, ..Flow::default() };
        let target = Target { state: target, service: 5, ..Target::default() };
        flow(&key, &value, &target, admitted, &Timeouts::DEFAULT, NOW)
    }

    #[test]
    fn a_flow_is_named_when_its_state_times_out() {
        let open = Admitted::new();
        for (state, timeout) in
            [(State::SynSent, 60), (State::Reset, 10), (State::FinTarget, 120), (State::UdpStream, 120)]
        {
            assert_eq!(judge(state, 6, timeout - 1, TARGET_ACTIVE, &open), Fate::Keep, "{}", state.name());
            assert_eq!(judge(state, 6, timeout, TARGET_ACTIVE, &open), Fate::Judge, "{}", state.name());
        }
        assert_eq!(judge(State::Established, 6, 999, TARGET_ACTIVE, &open), Fate::Keep);
        assert_eq!(judge(State::Deleted, 6, 0, TARGET_ACTIVE, &open), Fate::Judge);
    }

    #[test]
    fn a_draining_target_keeps_connections_and_loses_datagrams() {
        let open = Admitted::new();
        assert_eq!(judge(State::Established, 6, 0, TARGET_DRAINING, &open), Fate::Keep);
        assert_eq!(judge(State::SctpEstablished, 132, 0, TARGET_DRAINING, &open), Fate::Keep);
        assert_eq!(judge(State::UdpStream, 17, 0, TARGET_DRAINING, &open), Fate::Judge);
        assert_eq!(judge(State::Established, 6, 0, TARGET_REMOVED, &open), Fate::Judge);
    }

    #[test]
    fn a_client_that_is_no_longer_admitted_is_flushed() {
        let ranges = |nets: &[&str]| {
            let nets = nets.iter().map(|net| Prefix::from_net(net.parse().unwrap()).unwrap());
            Admitted::from([(5, nets.collect())])
        };
        let judge = |admitted| judge(State::Established, 6, 0, TARGET_ACTIVE, &admitted);
        assert_eq!(judge(ranges(&["9.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"])), Fate::Keep);
        assert_eq!(judge(ranges(&["0.0.0.0/0"])), Fate::Keep);
        assert_eq!(judge(ranges(&["10.0.0.0/16", "10.2.0.0/16"])), Fate::Flush);
        assert_eq!(judge(ranges(&["11.0.0.0/8"])), Fate::Flush);
        assert_eq!(judge(ranges(&[])), Fate::Flush);
    }

    #[test]
    fn reservations_are_named_when_free_or_long_idle() {
        let named = |slot, state, idle, pass| {
            let owner = Owner { client: [0; 4], client_port: 0, target: slot };
            let key = ReplyKey { snat_port: 40_003, ..ReplyKey::default() };
            let target = Target { state, ..Target::default() };
            reply(&key, &owner, Activity::new(NOW - idle, 0), &target, NOW, pass)
        };
        let passes = 100..100 + DOUBT_SHARE;
        let turns = |slot, state, idle| passes.clone().filter(|pass| named(slot, state, idle, *pass)).count();
        assert_eq!(turns(0, TARGET_UNSET, 2), 8);
        assert_eq!(turns(0, TARGET_UNSET, 1), 0);
        assert_eq!(turns(7, TARGET_ACTIVE, 9), 0);
        assert_eq!(turns(7, TARGET_ACTIVE, 10), 1, "each in its turn");
        assert_eq!(turns(7, TARGET_REMOVED, 2), 8);
        assert_eq!(turns(OWNER_LOCKED, TARGET_UNSET, 2), 8);
    }
}
