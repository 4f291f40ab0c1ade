//! Connection tracking: states, how packets move them, and when an entry is dead or may be taken over.

use crate::maps::Timeouts;

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
