//! What all services together take of the maps.

use super::super::limits;
use super::super::model::Service;
use super::{Faults, Path};

/// Slots and entries taken by the services so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    ports: usize,
    pairs_v4: usize,
    pairs_v6: usize,
    ranges_v4: usize,
    ranges_v6: usize,
}

impl Totals {
    /// Adds `service`, and complains where a limit is passed with it.
    pub(super) fn add(&mut self, faults: &mut Faults, at: &Path, service: &Service) {
        let before = *self;
        let ports = service.ports.len();
        let v4_vips = service.vips.iter().filter(|vip| vip.address.addr().is_ipv4()).count();
        let v4_ranges = service.source_ranges.iter().filter(|range| range.addr().is_ipv4()).count();
        self.ports += ports;
        self.pairs_v4 += ports * v4_vips;
        self.pairs_v6 += ports * (service.vips.len() - v4_vips);
        self.ranges_v4 += ports * v4_ranges;
        self.ranges_v6 += ports * (service.source_ranges.len() - v4_ranges);
        let ranges = "source ranges, counted once for each port that they guard";
        let checks = [
            ("ports", "ports", limits::MAX_SERVICE_PORTS, before.ports, self.ports),
            ("vips", "pairs of IPv4 VIP and port", limits::MAX_VIP_PORTS, before.pairs_v4, self.pairs_v4),
            ("vips", "pairs of IPv6 VIP and port", limits::MAX_VIP_PORTS, before.pairs_v6, self.pairs_v6),
            ("sourceRanges", &format!("IPv4 {ranges}"), limits::MAX_RANGES, before.ranges_v4, self.ranges_v4),
            ("sourceRanges", &format!("IPv6 {ranges}"), limits::MAX_RANGES, before.ranges_v6, self.ranges_v6),
        ];
        for (field, what, most, before, now) in checks {
            if before <= most && now > most {
                faults.add(
                    &at.field(field),
                    format!("up to here the services have {now} {what}"),
                    format!("keep to {most} per gateway"),
                );
            }
        }
    }
}
