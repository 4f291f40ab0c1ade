//! What a pass found.

use std::{collections::BTreeMap, time::Duration};

use sluice_gateway_ebpf::conntrack::State;

/// What the last complete pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From its first tick to its last.
    pub duration: Duration,
    /// Time on the CPU.
    pub busy: Duration,
    /// IPv4.
    pub v4: Tally,
    /// IPv6.
    pub v6: Tally,
}

/// What a pass found in one family's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flows read.
    pub flows: u64,
    /// Reservations read.
    pub replies: u64,
    /// Entries named to the sweep program.
    pub named: u64,
    /// Entries it deleted, flows and reservations.
    pub deleted: u64,
    /// Flows by service id.
    pub services: BTreeMap<u32, States>,
    /// Target slots that serve no entry and whose flows have not all ended.
    pub resting_targets: usize,
    /// Such slots that no flow names any more, free to be used anew.
    pub vacant_targets: usize,
}

/// Flows by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States([u64; STATES]);

const STATES: usize = State::SctpEstablished as usize + 1;

impl States {
    /// Counts a flow with `raw` as its state.
    pub(super) fn count(&mut self, raw: u8) {
        self.0[State::from_raw(raw) as usize] += 1;
    }

    /// States that any flow is in, with how many are.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        let counts = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(raw, count)| (State::from_raw(raw as u8), *count))
    }

    /// All flows.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
