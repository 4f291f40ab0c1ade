//! Bounds of a gateway file. Those that come from the maps repeat the maps' own constants, since the controller reads this
//! module without the data path; a test holds them equal.

use std::ops::RangeInclusive;

/// Largest gateway file in bytes: what fits into a ConfigMap.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Most ports over all services: the slots of the `service_stats` map, of which the first stays unused.
pub const MAX_SERVICE_PORTS: usize = 4_095;
/// Most pairs of VIP and port of one family over all services: the `services` maps.
pub const MAX_VIP_PORTS: usize = 4_096;
/// Most source ranges of one family, counted once for each port that they guard: the `ranges` maps.
pub const MAX_RANGES: usize = 65_536;
/// Flows per family unless the file says otherwise.
pub const DEFAULT_MAX_FLOWS: u32 = 262_144;
/// Flows per family: from what a test needs to some 3 GiB of kernel memory for IPv4.
pub const MAX_FLOWS: RangeInclusive<u32> = 64..=1 << 24;
/// Routing tables: 0 is "unspecified", 253 to 255 are the kernel's default, main and local.
pub const TABLE: RangeInclusive<u32> = 1..=252;
/// ICMP errors per second and CPU; 0 sends none.
pub const ICMP_ERRORS_PER_SECOND: RangeInclusive<u32> = 0..=1_000_000;
/// Bytes of an interface name: the kernel's IFNAMSIZ less the terminator.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Bytes of a service's name: a namespace (63), a slash and an object name (253).
pub const MAX_SERVICE_NAME: usize = 317;
/// Bytes of a port's name.
pub const MAX_PORT_NAME: usize = 63;
/// Seconds of the idle times of open connections (`tcpEstablished`, `sctpEstablished`). The programs' clock repeats after
/// 2^24 s (194 days) and tells past from future within half of that; 90 days leave room.
pub const LONG_TIMEOUT: RangeInclusive<u32> = 1..=90 * 86_400;
/// Seconds of all other idle times.
pub const SHORT_TIMEOUT: RangeInclusive<u32> = 1..=86_400;

#[cfg(all(test, feature = "loader"))]
mod tests {
    use sluice_gateway_ebpf::maps;

    use super::*;
    use crate::config::Timeouts;

    #[test]
    fn limits_are_those_of_the_maps() {
        assert_eq!(MAX_SERVICE_PORTS, maps::MAX_SERVICES as usize - 1);
        assert_eq!(MAX_VIP_PORTS, maps::MAX_SERVICES as usize);
        assert_eq!(MAX_RANGES, maps::MAX_RANGES as usize);
        assert_eq!(DEFAULT_MAX_FLOWS, maps::DEFAULT_MAX_FLOWS);
    }

    /// Every VIP and port takes one slot of `targets` today, and as many again while an edit drains the old ones: there is no
    /// limit of targets to check.
    #[test]
    fn targets_cannot_run_out_before_pairs() {
        assert!(maps::MAX_TARGETS as usize > 2 * MAX_VIP_PORTS);
    }

    #[test]
    fn idle_times_stay_within_the_programs_clock() {
        assert!(*LONG_TIMEOUT.end() < maps::Activity::CLOCK_MASK / 2);
        assert!(SHORT_TIMEOUT.end() <= LONG_TIMEOUT.end());
    }

    #[test]
    fn default_timeouts_are_those_of_the_programs() {
        let ours = Timeouts::default();
        let theirs = maps::Timeouts::DEFAULT;
        assert_eq!(ours.tcp_half_open, theirs.tcp_half_open);
        assert_eq!(ours.tcp_established, theirs.tcp_established);
        assert_eq!(ours.tcp_fin, theirs.tcp_fin);
        assert_eq!(ours.tcp_time_wait, theirs.tcp_time_wait);
        assert_eq!(ours.tcp_closed, theirs.tcp_closed);
        assert_eq!(ours.udp_unreplied, theirs.udp_unreplied);
        assert_eq!(ours.udp_stream, theirs.udp_stream);
        assert_eq!(ours.sctp_unreplied, theirs.sctp_unreplied);
        assert_eq!(ours.sctp_established, theirs.sctp_established);
    }
}
