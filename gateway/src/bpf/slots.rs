//! The places where programs are attached, and what each is called.

use aya::programs::{TcAttachType, tc::TcHandle};

use super::families::Families;
use crate::status::Role;

/// Which way packets go, seen from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received.
    Ingress,
    /// Sent.
    Egress,
}

impl Direction {
    /// The name that pins and `status` use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(super) const fn tc(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// One program on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The program's name.
    pub program: &'static str,
    pub role: Role,
    pub direction: Direction,
    pub families: Families,
    /// Tells our filters of one device from each other where they have no links.
    minor: u16,
}

const V4: Families = Families { v4: true, v6: false };
const V6: Families = Families { v4: false, v6: true };

/// Every slot, in the order of attaching: what handles replies is there before the first packet is forwarded. Detaching goes
/// the other way.
const SLOTS: [Slot; 6] = [
    Slot {
        program: "reverse_v4",
        role: Role::Cluster,
        direction: Direction::Ingress,
        families: V4,
        minor: 1,
    },
    Slot { program: "egress_v4", role: Role::External, direction: Direction::Egress, families: V4, minor: 2 },
    Slot { program: "egress_v4", role: Role::Cluster, direction: Direction::Egress, families: V4, minor: 3 },
    Slot {
        program: "forward_v4",
        role: Role::External,
        direction: Direction::Ingress,
        families: V4,
        minor: 4,
    },
    Slot {
        program: "reverse_v6",
        role: Role::Cluster,
        direction: Direction::Ingress,
        families: V6,
        minor: 5,
    },
    Slot {
        program: "forward_v6",
        role: Role::External,
        direction: Direction::Ingress,
        families: V6,
        minor: 6,
    },
];

/// Upper half of our filters' handles: what tells them from anyone else's, together with [`Slot::PRIORITY`] and the name.
const HANDLE_MAJOR: u16 = 0x51ce;

impl Slot {
    /// Priority of our clsact filters. Above 49 152, the first that the kernel gives out by itself, so that filters of others
    /// run first, as with TCX.
    pub const PRIORITY: u16 = 50_000;

    /// Handle of this slot's clsact filter.
    pub const fn handle(&self) -> TcHandle {
        TcHandle::new(HANDLE_MAJOR, self.minor)
    }

    /// Name of the pin of this slot's TCX link, for example `link_external_ingress_v4`.
    pub fn link_name(&self) -> String {
        let family = if self.families.v4 { "v4" } else { "v6" };
        format!("{LINK_PREFIX}{}_{}_{family}", self.role.name(), self.direction.name())
    }
}

/// What the names of all links' pins begin with.
pub(super) const LINK_PREFIX: &str = "link_";

/// The slots of `families`, in the order of attaching.
pub(super) fn slots(families: Families) -> impl DoubleEndedIterator<Item = &'static Slot> {
    SLOTS.iter().filter(move |slot| (slot.families.v4 && families.v4) || (slot.families.v6 && families.v6))
}

/// Whether a clsact filter with this name, priority and handle is one of ours.
pub(super) fn is_ours(name: &str, priority: u16, handle: TcHandle) -> bool {
    priority == Slot::PRIORITY && SLOTS.iter().any(|slot| slot.handle() == handle && slot.program == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const BOTH: Families = Families { v4: true, v6: true };

    #[test]
    fn slots_do_not_share_a_pin_or_a_handle() {
        let pins: HashSet<_> = slots(BOTH).map(Slot::link_name).collect();
        let handles: HashSet<u32> = slots(BOTH).map(|slot| slot.handle().into()).collect();
        assert_eq!((pins.len(), handles.len()), (SLOTS.len(), SLOTS.len()));
        assert!(pins.contains("link_external_ingress_v4"));
    }

    #[test]
    fn slots_are_those_of_the_families_in_use() {
        assert_eq!(slots(V4).count(), 4);
        assert_eq!(slots(V6).count(), 2);
        assert_eq!(slots(BOTH).count(), 6);
        assert_eq!(slots(Families::default()).count(), 0);
    }

    #[test]
    fn replies_are_handled_before_the_first_packet_is_forwarded() {
        for families in [V4, V6] {
            assert!(slots(families).last().unwrap().program.starts_with("forward"));
        }
    }

    #[test]
    fn a_filter_is_ours_only_by_name_priority_and_handle() {
        let slot = slots(V4).next().unwrap();
        assert!(is_ours(slot.program, Slot::PRIORITY, slot.handle()));
        assert!(!is_ours("reverse_v6", Slot::PRIORITY, slot.handle()));
        assert!(!is_ours(slot.program, 1, slot.handle()));
        assert!(!is_ours(slot.program, Slot::PRIORITY, TcHandle::new(0, 1)));
    }
}
