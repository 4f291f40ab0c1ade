//! Target slots: which to keep, to use again, or to take.

use std::collections::{BTreeMap, HashMap};

use sluice_gateway_ebpf::maps::{MAX_TARGETS, Service, ServiceKey, TARGET_ACTIVE, TARGET_UNSET, Target};

use crate::tables::address::IpBytes;

/// A run of target slots for one entry of `services`, and the writes that make it right.
pub(super) struct Block<A> {
    pub first: u16,
    pub writes: Vec<(u16, Target<A>)>,
}

/// The slots of one family while a plan is made.
pub(super) struct Slots<'a, A> {
    now: &'a BTreeMap<u16, Target<A>>,
    vacant: &'a BTreeMap<u16, u32>,
    taken: Vec<bool>,
    by_key: HashMap<ServiceKey<A>, Vec<u16>>,
}

/// The service entry that a target slot was made for.
pub(super) fn key_of<A: IpBytes>(target: &Target<A>) -> ServiceKey<A> {
    ServiceKey { vip: target.vip, port: target.vip_port, protocol: target.protocol, pad: 0 }
}

impl<'a, A: IpBytes> Slots<'a, A> {
    pub fn new(now: &'a BTreeMap<u16, Target<A>>, vacant: &'a BTreeMap<u16, u32>) -> Self {
        let mut by_key: HashMap<_, Vec<u16>> = HashMap::new();
        for (slot, target) in now.iter().filter(|(_, target)| target.state != TARGET_UNSET) {
            by_key.entry(key_of(target)).or_default().push(*slot);
        }
        Self { now, vacant, taken: vec![false; MAX_TARGETS as usize], by_key }
    }

    /// The slots that `entry` points at, if they already are what `wanted` says. What packets may see change under them (the
    /// way to the next hops) is edited in place.
    pub fn keep(&mut self, entry: &Service, wanted: &[Target<A>]) -> Option<Block<A>> {
        if usize::from(entry.target_count) != wanted.len() {
            return None;
        }
        let targets = self.identical(entry.first_target, wanted)?;
        if targets.iter().any(|target| target.state != TARGET_ACTIVE) {
            return None;
        }
        Some(self.take(entry.first_target, wanted, |now| now.generation))
    }

    /// Slots for targets that no entry points at yet: those that served exactly them before, else unused ones.
    pub fn place(&mut self, key: &ServiceKey<A>, wanted: &[Target<A>]) -> Option<Block<A>> {
        if wanted.is_empty() {
            return Some(Block { first: 0, writes: Vec::new() });
        }
        let former = self.by_key.get(key);
        let first = match former.into_iter().flatten().find(|first| self.identical(**first, wanted).is_some())
        {
            Some(first) => *first,
            None => self.unused(wanted.len())?,
        };
        Some(self.take(first, wanted, |now| now.generation.wrapping_add(1)))
    }

    /// Slots that no kept or placed block uses.
    pub fn rest(&self) -> impl Iterator<Item = (u16, &'a Target<A>)> {
        self.now
            .iter()
            .filter(|(slot, _)| !self.taken[usize::from(**slot)])
            .map(|(slot, target)| (*slot, target))
    }

    /// Whether no flow names the slot.
    pub fn is_free(&self, slot: u16) -> bool {
        !self.taken[usize::from(slot)]
            && self.now.get(&slot).is_none_or(|target| {
                target.state == TARGET_UNSET
                    || target.state != TARGET_ACTIVE && self.vacant.get(&slot) == Some(&target.generation)
            })
    }

    /// Slots that may still be named by flows, but serve no entry.
    pub fn resting(&self) -> usize {
        self.rest().filter(|(slot, target)| target.state != TARGET_UNSET && !self.is_free(*slot)).count()
    }

    /// The targets in the slots from `first` on, if flows cannot tell them from `wanted` and no block has them.
    fn identical(&self, first: u16, wanted: &[Target<A>]) -> Option<Vec<&'a Target<A>>> {
        let slots = (first..u16::MAX).take(wanted.len());
        let targets: Vec<_> = slots
            .filter(|slot| *slot != 0 && self.taken.get(usize::from(*slot)) == Some(&false))
            .zip(wanted)
            .filter_map(|(slot, wanted)| self.now.get(&slot).filter(|now| same_to_flows(now, wanted)))
            .collect();
        (targets.len() == wanted.len()).then_some(targets)
    }

    fn unused(&self, count: usize) -> Option<u16> {
        let mut run = 0;
        for slot in 1..MAX_TARGETS as u16 {
            run = if self.is_free(slot) { run + 1 } else { 0 };
            if run == count {
                return Some(slot + 1 - count as u16);
            }
        }
        None
    }

    fn take(&mut self, first: u16, wanted: &[Target<A>], generation: impl Fn(&Target<A>) -> u32) -> Block<A> {
        let mut writes = Vec::new();
        for (slot, wanted) in (first..).zip(wanted) {
            self.taken[usize::from(slot)] = true;
            let now = self.now.get(&slot).copied().unwrap_or_default();
            let target = Target { state: TARGET_ACTIVE, generation: generation(&now), ..*wanted };
            if target != now {
                writes.push((slot, target));
            }
        }
        Block { first, writes }
    }
}

/// Whether flows that were made with `now` may go on with `wanted`: the addresses and ports in their packets are the same.
fn same_to_flows<A: IpBytes>(now: &Target<A>, wanted: &Target<A>) -> bool {
    let identity = |target: &Target<A>| {
        (
            target.address,
            target.port,
            target.snat,
            target.vip,
            target.vip_port,
            target.protocol,
            target.service,
        )
    };
    now.state != TARGET_UNSET && identity(now) == identity(wanted)
}
