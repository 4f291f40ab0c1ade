//! The steps for one family.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sluice_gateway_ebpf::maps::{
    MAX_RANGES, MAX_SERVICES, SERVICE_HAS_RANGES, Service, ServiceKey, TARGET_ACTIVE, TARGET_DRAINING,
    TARGET_REMOVED, TARGET_UNSET, Target,
};

use super::slots::{Block, Slots, key_of};
use crate::tables::{
    address::{IpBytes, Prefix},
    contents::FamilyContents,
    desired::{DesiredPort, Problem, Side},
    step::FamilyStep,
};

/// Clients that may use a restricted service id of one family; ids that are not in it admit everybody.
pub type Admitted<A> = HashMap<u32, Vec<Prefix<A>>>;

/// A service port that has an id.
pub(super) struct Wanted<'a, A> {
    pub id: u32,
    pub port: &'a DesiredPort,
    pub side: &'a Side<A>,
}

/// What one family's maps need.
pub(super) struct FamilyPlan<A> {
    pub steps: Vec<FamilyStep<A>>,
    /// Whether flows may exist that have no right to any more.
    pub sweep: bool,
    pub problems: Vec<Problem>,
    pub admitted: Admitted<A>,
}

/// Steps in the order they are carried out, which keeps each state in between safe: an entry of `services` never points at
/// slots that are not its own, and never admits a client that neither the old nor the new configuration admits.
struct Phases<A> {
    /// Removed ports stop.
    stop: Vec<FamilyStep<A>>,
    /// Flows of removed ports lose their targets.
    remove: Vec<FamilyStep<A>>,
    admit: Vec<FamilyStep<A>>,
    /// Prefixes that restricted services lose, before any entry of theirs is made, and those of removed services.
    refuse: Vec<FamilyStep<A>>,
    /// New targets, and edits in place.
    targets: Vec<FamilyStep<A>>,
    /// The switch: one atomic update each.
    entries: Vec<FamilyStep<A>>,
    drain: Vec<FamilyStep<A>>,
    /// Prefixes that no entry looks for any more.
    forget: Vec<FamilyStep<A>>,
    /// Slots that no flow names any more.
    free: Vec<FamilyStep<A>>,
}

pub(super) fn plan<A: IpBytes>(
    now: &FamilyContents<A>,
    wanted: &[Wanted<'_, A>],
    vacant: &BTreeMap<u16, u32>,
) -> FamilyPlan<A> {
    let mut planner = Planner {
        now,
        slots: Slots::new(&now.targets, vacant),
        phases: Phases {
            stop: vec![],
            remove: vec![],
            admit: vec![],
            refuse: vec![],
            targets: vec![],
            entries: vec![],
            drain: vec![],
            forget: vec![],
            free: vec![],
        },
        sweep: false,
        problems: vec![],
    };
    let served = planner.entries(wanted);
    planner.stop(&served);
    planner.retire(&served);
    let admitted = planner.ranges(wanted);
    planner.finish(admitted)
}

struct Planner<'a, A: IpBytes> {
    now: &'a FamilyContents<A>,
    slots: Slots<'a, A>,
    phases: Phases<A>,
    sweep: bool,
    problems: Vec<Problem>,
}

impl<'a, A: IpBytes> Planner<'a, A> {
    /// Plans the entries and their targets; returns the keys that stay or come.
    fn entries(&mut self, wanted: &[Wanted<'_, A>]) -> HashSet<ServiceKey<A>> {
        let mut served = HashSet::new();
        let mut moved = Vec::new();
        // All slots that stay are known before a new one is chosen.
        for want in wanted {
            for entry in &want.side.entries {
                if served.len() == MAX_SERVICES as usize {
                    self.problems.push(Problem::EntriesFull {
                        port: want.port.name.clone(),
                        vip: entry.key.vip.ip(),
                        family: A::SUFFIX,
                    });
                    continue;
                }
                served.insert(entry.key);
                let targets: Vec<_> =
                    entry.targets.iter().map(|target| Target { service: want.id, ..*target }).collect();
                let current = self.now.services.get(&entry.key).filter(|current| current.id == want.id);
                match current.and_then(|current| self.slots.keep(current, &targets)) {
                    Some(block) => self.point(want, &entry.key, block, targets.len()),
                    None => moved.push((want, entry.key, targets)),
                }
            }
        }
        for (want, key, targets) in moved {
            match self.slots.place(&key, &targets) {
                Some(block) => self.point(want, &key, block, targets.len()),
                None => {
                    // Without a target new flows are refused, which is better than served by the former one.
                    self.point(want, &key, Block { first: 0, writes: vec![] }, 0);
                    self.problems.push(Problem::TargetsFull {
                        port: want.port.name.clone(),
                        vip: key.vip.ip(),
                        family: A::SUFFIX,
                        resting: self.slots.resting(),
                    });
                }
            }
        }
        served
    }

    /// Points the entry at a block.
    fn point(&mut self, want: &Wanted<'_, A>, key: &ServiceKey<A>, block: Block<A>, count: usize) {
        let current = self.now.services.get(key);
        let flags = if want.port.restricted { SERVICE_HAS_RANGES } else { 0 };
        let mut entry = Service {
            id: want.id,
            first_target: if count == 0 { 0 } else { block.first },
            target_count: count as u16,
            flags,
            generation: current.map_or(0, |current| current.generation),
        };
        self.phases
            .targets
            .extend(block.writes.into_iter().map(|(slot, target)| FamilyStep::PutTarget(slot, target)));
        if current != Some(&entry) {
            entry.generation = entry.generation.wrapping_add(1);
            self.phases.entries.push(FamilyStep::PutService(*key, entry));
            self.sweep |= current.is_some_and(|current| flags & !current.flags != 0);
        }
    }

    /// Plans the end of entries that are no longer wanted.
    fn stop(&mut self, served: &HashSet<ServiceKey<A>>) {
        let mut gone: Vec<_> =
            self.now.services.keys().filter(|key| !served.contains(key)).copied().collect();
        gone.sort_by_key(|key| (key.vip, key.port, key.protocol));
        self.phases.stop.extend(gone.into_iter().map(FamilyStep::DeleteService));
    }

    /// Plans what becomes of slots that no entry uses.
    fn retire(&mut self, served: &HashSet<ServiceKey<A>>) {
        for (slot, target) in self.slots.rest() {
            let state = match target.state {
                TARGET_UNSET => continue,
                TARGET_REMOVED => TARGET_REMOVED,
                _ if served.contains(&key_of(target)) => TARGET_DRAINING,
                _ => TARGET_REMOVED,
            };
            if self.slots.is_free(slot) {
                let unset = Target { generation: target.generation, ..Target::default() };
                self.phases.free.push(FamilyStep::PutTarget(slot, unset));
            } else if state != target.state {
                self.sweep = true;
                let phase =
                    if state == TARGET_REMOVED { &mut self.phases.remove } else { &mut self.phases.drain };
                phase.push(FamilyStep::PutTarget(slot, Target { state, ..*target }));
            }
        }
    }

    /// Plans the source ranges.
    fn ranges(&mut self, wanted: &[Wanted<'_, A>]) -> Admitted<A> {
        let mut admitted = Admitted::new();
        let mut target = BTreeSet::new();
        for want in wanted.iter().filter(|want| want.port.restricted && !want.side.entries.is_empty()) {
            let mut ranges = want.side.ranges.clone();
            if target.len() + ranges.len() > MAX_RANGES as usize {
                self.problems.push(Problem::RangesFull { port: want.port.name.clone(), family: A::SUFFIX });
                ranges.clear();
            }
            target.extend(ranges.iter().map(|prefix| (want.id, *prefix)));
            admitted.insert(want.id, ranges);
        }
        let put = |(id, prefix)| FamilyStep::PutRange(id, prefix);
        let delete = |(id, prefix)| FamilyStep::DeleteRange(id, prefix);
        self.phases.admit.extend(target.difference(&self.now.ranges).copied().map(put));
        // An entry that loses its restriction still looks for its prefixes until it is switched.
        let open: HashSet<u32> =
            wanted.iter().filter(|want| !want.port.restricted).map(|want| want.id).collect();
        let obsolete = self.now.ranges.difference(&target).copied();
        let (forget, refuse): (Vec<_>, Vec<_>) = obsolete.partition(|(id, _)| open.contains(id));
        self.sweep |= refuse.iter().any(|(id, _)| admitted.contains_key(id));
        self.phases.refuse.extend(refuse.into_iter().map(delete));
        self.phases.forget.extend(forget.into_iter().map(delete));
        if self.now.ranges.len() + self.phases.admit.len() > MAX_RANGES as usize {
            // Old and new do not fit together: refusing clients for a moment is the safe way round.
            std::mem::swap(&mut self.phases.admit, &mut self.phases.refuse);
        }
        admitted
    }

    fn finish(self, admitted: Admitted<A>) -> FamilyPlan<A> {
        let Phases { stop, remove, admit, refuse, targets, entries, drain, forget, free } = self.phases;
        let steps = [stop, remove, admit, refuse, targets, entries, drain, forget, free]
            .into_iter()
            .flatten()
            .collect();
        FamilyPlan { steps, sweep: self.sweep, problems: self.problems, admitted }
    }
}

/// Whether a slot waits for its flows to end.
pub fn at_rest<A>(target: &Target<A>) -> bool {
    target.state != TARGET_UNSET && target.state != TARGET_ACTIVE
}
