//! Connection tracking: states, how packets move them, and when an entry is dead or may be taken over.

use bytemuck::{Pod, Zeroable};

use crate::protocol::{self, flags};

/// Idle times in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP handshake not completed by the client.
    pub tcp_half_open: u32,
    /// TCP established.
    pub tcp_established: u32,
    /// TCP after the first FIN.
    pub tcp_fin: u32,
    /// TCP after both FINs, the target's first: how long the target may stay in TIME_WAIT, 60 seconds for Linux, and some
    /// to spare for clocks. The reservation rests as long.
    pub tcp_time_wait: u32,
    /// TCP after a RST, or after both FINs with the client's first. The reservation rests as long.
    pub tcp_closed: u32,
    /// UDP, no answer or no second exchange yet.
    pub udp_unreplied: u32,
    /// UDP streams.
    pub udp_stream: u32,
    /// SCTP, no answer yet.
    pub sctp_unreplied: u32,
    /// SCTP, answered.
    pub sctp_established: u32,
    /// Zero.
    pub pad: u32,
}

impl Timeouts {
    /// Netfilter's values, where it has the state (nf_conntrack_proto_{tcp,udp,sctp}.c, Linux 6.18).
    pub const DEFAULT: Self = Self {
        tcp_half_open: 60,
        tcp_established: 432_000,
        tcp_fin: 120,
        tcp_time_wait: 65,
        tcp_closed: 10,
        udp_unreplied: 30,
        udp_stream: 120,
        sctp_unreplied: 30,
        sctp_established: 210,
        pad: 0,
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// State of a flow, [`crate::maps::Flow::state`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not a flow: the element is being deleted.
    Deleted = 0,
    /// TCP: the client's SYN was forwarded.
    SynSent = 1,
    /// TCP: the target's SYN-ACK was forwarded.
    SynReceived = 2,
    /// TCP: the client acknowledged the SYN-ACK.
    Established = 3,
    /// TCP: the client sent FIN.
    FinClient = 4,
    /// TCP: the target sent FIN.
    FinTarget = 5,
    /// TCP: both sent FIN, the client first: the target forgets at once.
    ClosedByClient = 6,
    /// TCP: both sent FIN, the target first: the target rests in TIME_WAIT.
    ClosedByTarget = 7,
    /// TCP: RST from either side.
    Reset = 8,
    /// UDP: only the client has spoken.
    UdpUnreplied = 9,
    /// UDP: the target answered.
    UdpReplied = 10,
    /// UDP: the exchange went on after the answer.
    UdpStream = 11,
    /// SCTP: only the client has spoken.
    SctpUnreplied = 12,
    /// SCTP: the target answered.
    SctpEstablished = 13,
}

impl State {
    /// The state stored as `raw`; anything unknown counts as deleted.
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::FinClient,
            5 => Self::FinTarget,
            6 => Self::ClosedByClient,
            7 => Self::ClosedByTarget,
            8 => Self::Reset,
            9 => Self::UdpUnreplied,
            10 => Self::UdpReplied,
            11 => Self::UdpStream,
            12 => Self::SctpUnreplied,
            13 => Self::SctpEstablished,
            _ => Self::Deleted,
        }
    }

    /// The name that `flows` and the documentation use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::FinClient => "fin-client",
            Self::FinTarget => "fin-target",
            Self::ClosedByClient => "closed-by-client",
            Self::ClosedByTarget => "closed-by-target",
            Self::Reset => "reset",
            Self::UdpUnreplied => "udp-unreplied",
            Self::UdpReplied => "udp-replied",
            Self::UdpStream => "udp-stream",
            Self::SctpUnreplied => "sctp-unreplied",
            Self::SctpEstablished => "sctp-established",
        }
    }

    /// Idle seconds after which a flow in this state is dead.
    pub const fn timeout(self, timeouts: &Timeouts) -> u32 {
        match self {
            Self::Deleted => 0,
            Self::SynSent | Self::SynReceived => timeouts.tcp_half_open,
            Self::Established => timeouts.tcp_established,
            Self::FinClient | Self::FinTarget => timeouts.tcp_fin,
            Self::ClosedByClient | Self::Reset => timeouts.tcp_closed,
            Self::ClosedByTarget => timeouts.tcp_time_wait,
            Self::UdpUnreplied | Self::UdpReplied => timeouts.udp_unreplied,
            Self::UdpStream => timeouts.udp_stream,
            Self::SctpUnreplied => timeouts.sctp_unreplied,
            Self::SctpEstablished => timeouts.sctp_established,
        }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the target.
    Forward,
    /// From the target to the client.
    Reverse,
}

impl State {
    /// The state of a flow that the client's first packet opens.
    pub const fn first(ip_protocol: u8) -> Self {
        match ip_protocol {
            protocol::TCP => Self::SynSent,
            protocol::UDP => Self::UdpUnreplied,
            _ => Self::SctpUnreplied,
        }
    }

    /// Whether the flow's [`Activity`](crate::maps::Activity) counts bytes in this state; otherwise it holds a number of the
    /// handshake or of the end of the connection.
    pub const fn counts_bytes(self) -> bool {
        !matches!(
            self,
            Self::Deleted
                | Self::SynSent
                | Self::SynReceived
                | Self::ClosedByClient
                | Self::ClosedByTarget
                | Self::Reset
        )
    }

    /// Whether both sides are done, so that the client may open the same connection anew.
    pub const fn is_closed(self) -> bool {
        matches!(self, Self::ClosedByClient | Self::ClosedByTarget | Self::Reset)
    }

    /// Whether the client has not completed the TCP handshake.
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// The state after a TCP segment with `flags`. `completes_handshake`: it acknowledges the SYN-ACK, which only a client
    /// that received it can do.
    #[inline(always)]
    pub const fn after_tcp(self, direction: Direction, tcp_flags: u8, completes_handshake: bool) -> Self {
        use Direction::{Forward, Reverse};
        if tcp_flags & flags::RST != 0 {
            return match self {
                // A connection that ended properly keeps the rest that its end asks for.
                Self::ClosedByClient | Self::ClosedByTarget => self,
                _ => Self::Reset,
            };
        }
        if tcp_flags & flags::SYN != 0 {
            return match (self, direction) {
                (Self::SynSent, Reverse) if tcp_flags & flags::ACK != 0 => Self::SynReceived,
                (state, Forward) if state.is_closed() && tcp_flags & flags::ACK == 0 => Self::SynSent,
                (state, _) => state,
            };
        }
        let state = match (self, direction) {
            (Self::SynReceived, Forward) if completes_handshake => Self::Established,
            (state, _) => state,
        };
        if tcp_flags & flags::FIN == 0 {
            return state;
        }
        match (state, direction) {
            (Self::Established, Forward) => Self::FinClient,
            (Self::Established, Reverse) => Self::FinTarget,
            (Self::FinTarget, Forward) => Self::ClosedByTarget,
            (Self::FinClient, Reverse) => Self::ClosedByClient,
            (state, _) => state,
        }
    }

    /// The state after a packet of a protocol without handshake. `later`: it comes in a later second than the client's last.
    #[inline(always)]
    pub const fn after_datagram(self, direction: Direction, later: bool) -> Self {
        match (self, direction) {
            (Self::UdpUnreplied, Direction::Reverse) => Self::UdpReplied,
            (Self::UdpReplied, Direction::Forward) if later => Self::UdpStream,
            (Self::SctpUnreplied, Direction::Reverse) => Self::SctpEstablished,
            (state, _) => state,
        }
    }
}

/// Bytes that a target may have sent before the client acknowledges its SYN (RFC 7413): more than any initial window.
const EARLY_DATA: u32 = 1 << 16;

/// Whether `acknowledgement` completes a handshake in which `expected` acknowledges the SYN-ACK alone. A sender that did not see
/// the SYN-ACK hits this one time in 65 536.
#[inline(always)]
pub const fn completes_handshake(expected: u32, acknowledgement: u32) -> bool {
    acknowledgement.wrapping_sub(expected) < EARLY_DATA
}

/// Whether a reservation may be given to another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is in use.
    No,
    /// Only if nothing else is left.
    LastResort,
    /// It is dead.
    Now,
}

/// Half-open reservations met in one search after which the oldest of them is taken: the ports are under a SYN flood, and
/// searching on would cost more than it finds.
pub const FLOOD_CANDIDATES: u32 = 8;
/// Idle seconds before an unanswered UDP flow may give way to a new one.
const UDP_LAST_RESORT: u32 = 5;

/// Judges a reservation whose flow is in `state` and has been idle for `idle` seconds. `sequence_ahead`: the newcomer is a
/// SYN whose sequence number lies beyond the closed connection's, which a target in TIME_WAIT accepts (RFC 9293, 3.6.1).
#[inline(always)]
pub const fn reuse(state: State, idle: u32, timeouts: &Timeouts, sequence_ahead: bool) -> Reuse {
    if idle >= state.timeout(timeouts) {
        return Reuse::Now;
    }
    match state {
        State::SynSent | State::SynReceived => Reuse::LastResort,
        State::ClosedByTarget if sequence_ahead => Reuse::LastResort,
        State::UdpUnreplied if idle >= UDP_LAST_RESORT => Reuse::LastResort,
        _ => Reuse::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = flags::SYN;
    const ACK: u8 = flags::ACK;
    const FIN: u8 = flags::FIN;

    fn run(steps: &[(Direction, u8, bool)]) -> State {
        steps.iter().fold(State::SynSent, |state, (direction, flags, completes)| {
            state.after_tcp(*direction, *flags, *completes)
        })
    }

    use Direction::{Forward, Reverse};

    #[test]
    fn only_the_clients_acknowledgement_establishes() {
        assert_eq!(run(&[(Reverse, SYN | ACK, false)]), State::SynReceived);
        assert_eq!(run(&[(Reverse, SYN | ACK, false), (Forward, ACK, false)]), State::SynReceived);
        assert_eq!(run(&[(Reverse, SYN | ACK, false), (Reverse, ACK, true)]), State::SynReceived);
        assert_eq!(run(&[(Forward, ACK, true)]), State::SynSent);
        assert_eq!(run(&[(Reverse, SYN | ACK, false), (Forward, ACK, true)]), State::Established);
        assert_eq!(run(&[(Reverse, SYN | ACK, false), (Forward, ACK | FIN, true)]), State::FinClient);
    }

    #[test]
    fn early_data_may_be_acknowledged_with_the_handshake() {
        for (expected, acknowledgement, completes) in
            [(5, 5, true), (5, 5 + 1460, true), (u32::MAX, 100, true), (5, 4, false), (5, 0x8000_0000, false)]
        {
            assert_eq!(
                completes_handshake(expected, acknowledgement),
                completes,
                "{expected} {acknowledgement}"
            );
        }
    }

    #[test]
    fn who_closes_first_decides_the_rest() {
        let open = [(Reverse, SYN | ACK, false), (Forward, ACK, true)];
        let end = |first, second| {
            run(&[&open[..], &[(first, FIN | ACK, false), (second, FIN | ACK, false)]].concat())
        };
        assert_eq!(end(Forward, Reverse), State::ClosedByClient);
        assert_eq!(end(Reverse, Forward), State::ClosedByTarget);
        assert_eq!(end(Forward, Forward), State::FinClient);
    }

    #[test]
    fn a_closed_connection_opens_anew_only_by_the_clients_syn() {
        for state in [State::ClosedByClient, State::ClosedByTarget, State::Reset] {
            assert_eq!(state.after_tcp(Forward, SYN, false), State::SynSent);
            assert_eq!(state.after_tcp(Forward, SYN | ACK, false), state);
            assert_eq!(state.after_tcp(Reverse, SYN, false), state);
            assert_eq!(state.after_tcp(Forward, ACK, true), state);
        }
        assert_eq!(State::Established.after_tcp(Forward, SYN, false), State::Established);
    }

    #[test]
    fn established_flows_are_never_taken_over() {
        let t = Timeouts::DEFAULT;
        for state in
            [State::Established, State::FinClient, State::FinTarget, State::UdpStream, State::SctpEstablished]
        {
            assert_eq!(reuse(state, state.timeout(&t) - 1, &t, true), Reuse::No);
            assert_eq!(reuse(state, state.timeout(&t), &t, false), Reuse::Now);
        }
        assert_eq!(reuse(State::SynReceived, 0, &t, false), Reuse::LastResort);
        assert_eq!(reuse(State::ClosedByTarget, 0, &t, false), Reuse::No);
        assert_eq!(reuse(State::ClosedByTarget, 0, &t, true), Reuse::LastResort);
        assert_eq!(reuse(State::Reset, 0, &t, true), Reuse::No);
    }

    #[test]
    fn states_survive_the_map() {
        for raw in 0..=13 {
            assert_eq!(State::from_raw(raw) as u8, raw);
        }
        assert_eq!(State::from_raw(200), State::Deleted);
    }
}
