//! What happens to a packet, and the names of the reasons to drop one.

/// Why a packet was dropped: the index into the `drops` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// A header that does not hold together: lengths, data offset.
    Malformed = 0,
    /// Not a SYN, and no flow: the connection is unknown here.
    NoFlow = 1,
    /// The client is in none of the service's source ranges.
    SourceRange = 2,
    /// No source port towards the target could be reserved.
    PortsExhausted = 3,
    /// A flow table is full.
    TableFull = 4,
    /// The service has no target.
    NoTarget = 5,
    /// A client outside the VIP's subnet, and no gateway to reach it.
    NoRoute = 6,
    /// TTL or hop limit exceeded; answered with an ICMP error, rate permitting.
    TtlExceeded = 7,
    /// Larger than the next link's MTU and not to be fragmented; answered with an ICMP error, rate permitting.
    TooBig = 8,
    /// A later fragment whose first fragment was not seen.
    FragmentUnknown = 9,
    /// SCTP, and a port would have to change: its CRC covers the ports.
    SctpPort = 10,
    /// IPv4 source-route option, or an IPv6 routing header with segments left.
    SourceRoute = 11,
    /// A source address that no client can have: multicast, broadcast, loopback, or the VIP itself.
    Martian = 12,
    /// The entry changed hands on another CPU while this packet was looking at it; the sender's repeat will pass.
    Busy = 13,
    /// More IPv6 extension headers than are walked.
    ExtensionHeaders = 14,
    /// A kernel helper refused: the packet could not be rewritten or read.
    Helper = 15,
    /// A programs' setting is unset: interfaces or MTU.
    Unconfigured = 16,
    /// A TCP segment that no connection may open with (SYN with FIN or RST).
    InvalidFlags = 17,
    /// An ICMP error about one of our flows that cannot be translated.
    IcmpError = 18,
    /// A fragment that begins inside or before the transport header (RFC 1858, RFC 3128).
    FragmentOverlap = 19,
}

impl Drop {
    /// Every reason, in the order of the map.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::NoFlow,
        Self::SourceRange,
        Self::PortsExhausted,
        Self::TableFull,
        Self::NoTarget,
        Self::NoRoute,
        Self::TtlExceeded,
        Self::TooBig,
        Self::FragmentUnknown,
        Self::SctpPort,
        Self::SourceRoute,
        Self::Martian,
        Self::Busy,
        Self::ExtensionHeaders,
        Self::Helper,
        Self::Unconfigured,
        Self::InvalidFlags,
        Self::IcmpError,
        Self::FragmentOverlap,
    ];

    /// The name that metrics, `status` and the documentation use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoFlow => "no_flow",
            Self::SourceRange => "source_range",
            Self::PortsExhausted => "ports_exhausted",
            Self::TableFull => "table_full",
            Self::NoTarget => "no_target",
            Self::NoRoute => "no_route",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::FragmentUnknown => "fragment_unknown",
            Self::SctpPort => "sctp_port",
            Self::SourceRoute => "source_route",
            Self::Martian => "martian",
            Self::Busy => "busy",
            Self::ExtensionHeaders => "extension_headers",
            Self::Helper => "helper",
            Self::Unconfigured => "unconfigured",
            Self::InvalidFlags => "invalid_flags",
            Self::IcmpError => "icmp_error",
            Self::FragmentOverlap => "fragment_overlap",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_index() {
        for (index, reason) in Drop::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
