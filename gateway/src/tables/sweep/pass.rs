//! One family's part of a pass: its flows, its reservations, its fragments.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use bytemuck::Pod;
use sluice_gateway_ebpf::maps::{
    Flow, FlowKey, Fragment, FragmentKey, MAX_TARGETS, Reply as _, ReplyKey, TARGET_UNSET, Target, Timeouts,
};

use super::{
    candidates::{self, Fate},
    packet::{Op, packets},
    report::Tally,
};
use crate::{
    bpf::{FamilyMaps, LoaderFamily},
    tables::{
        address::IpBytes,
        batch::{Batch, Cursor},
        error::Error,
        plan::{Admitted, at_rest},
        read,
    },
};

/// Entries read by one system call: less than a tick's worth, and nothing else runs on the CPU meanwhile where the kernel is built without
/// preemption.
const BATCH: usize = 1024;
/// A slot must have been at rest this long when a pass begins, for the pass to prove it unused: a packet that had read the
/// service's entry before it was switched has made its flow by then.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Flows,
    Replies,
    Fragments,
    Done,
}

/// A family's sweep: buffers, and what is remembered from pass to pass.
pub(super) struct FamilySweep<F: LoaderFamily> {
    flows: Batch<FlowKey<F::Addr>, Flow>,
    replies: Batch<ReplyKey<F::Addr>, F::Reply>,
    fragments: Batch<FragmentKey<F::Addr>, Fragment<F::Addr>>,
    /// Since when this process has known a slot (with its generation) to be at rest.
    resting: HashMap<(u16, u32), Instant>,
    table: Table,
    cursor: Cursor,
    targets: Vec<Target<F::Addr>>,
    used: Vec<bool>,
    /// Slots that this pass may prove unused, with their generations.
    candidates: BTreeMap<u16, u32>,
    tally: Tally,
    /// Passes begun.
    passes: u32,
}

/// What a family's sweep needs to know from outside.
pub(super) struct Context<'a, A> {
    pub admitted: &'a Admitted<A>,
    pub timeouts: &'a Timeouts,
    /// CLOCK_MONOTONIC seconds.
    pub now: u32,
}

impl<F: LoaderFamily<Addr: IpBytes>> FamilySweep<F> {
    pub fn new() -> Self {
        Self {
            flows: Batch::new(BATCH),
            replies: Batch::new(BATCH),
            fragments: Batch::new(BATCH),
            resting: HashMap::new(),
            table: Table::Done,
            cursor: Cursor::End,
            targets: Vec::new(),
            used: Vec::new(),
            candidates: BTreeMap::new(),
            tally: Tally::default(),
            passes: 0,
        }
    }

    /// Begins a pass.
    pub fn begin(&mut self, maps: &FamilyMaps<F>, now: Instant) -> Result<(), Error> {
        self.targets = vec![Target::default(); MAX_TARGETS as usize];
        for (slot, target) in read::targets(maps)? {
            if let Some(place) = self.targets.get_mut(usize::from(slot)) {
                *place = target;
            }
        }
        let at_rest = self.targets.iter().enumerate().filter(|(_, target)| at_rest(target));
        let at_rest: Vec<_> = at_rest.map(|(slot, target)| (slot as u16, target.generation)).collect();
        self.resting =
            at_rest.iter().map(|slot| (*slot, self.resting.get(slot).copied().unwrap_or(now))).collect();
        let settled = |slot: &&(u16, u32)| now.duration_since(self.resting[*slot]) >= SETTLED;
        self.candidates = at_rest.iter().filter(settled).copied().collect();
        self.used = vec![false; MAX_TARGETS as usize];
        self.tally = Tally { resting_targets: at_rest.len(), ..Tally::default() };
        self.table = Table::Flows;
        self.cursor = Cursor::Start;
        self.passes = self.passes.wrapping_add(1);
        Ok(())
    }

    /// Reads a batch and has its candidates judged. Returns how many entries there were; `None` when the pass is complete.
    pub fn step(
        &mut self,
        maps: &FamilyMaps<F>,
        context: &Context<'_, F::Addr>,
    ) -> Result<Option<u64>, Error> {
        let read = match self.table {
            Table::Flows => self.sweep_flows(maps, context)?,
            Table::Replies => self.sweep_replies(maps, context)?,
            Table::Fragments => self.look_at_fragments(maps, context)?,
            Table::Done => return Ok(None),
        };
        if self.cursor == Cursor::End {
            self.cursor = Cursor::Start;
            self.table = match self.table {
                Table::Flows => Table::Replies,
                Table::Replies => Table::Fragments,
                Table::Fragments | Table::Done => Table::Done,
            };
        }
        Ok(Some(read as u64))
    }

    /// Ends a complete pass: what it found, and the slots that nothing names.
    pub fn end(&mut self) -> (Tally, BTreeMap<u16, u32>) {
        let mut vacant = std::mem::take(&mut self.candidates);
        vacant.retain(|slot, _| !self.used[usize::from(*slot)]);
        let mut tally = std::mem::take(&mut self.tally);
        tally.vacant_targets = vacant.len();
        (tally, vacant)
    }

    fn sweep_flows(&mut self, maps: &FamilyMaps<F>, context: &Context<'_, F::Addr>) -> Result<usize, Error> {
        self.flows.read(&maps.flows, &mut self.cursor).map_err(Error::read("flows", Self::SUFFIX))?;
        let (mut judge, mut flush) = (Vec::new(), Vec::new());
        for (key, flow) in self.flows.entries() {
            let target = named_target(&mut self.targets, maps, flow.target)?;
            self.tally.services.entry(target.service).or_default().count(flow.state);
            match candidates::flow(&key, &flow, &target, context.admitted, context.timeouts, context.now) {
                Fate::Keep => {}
                Fate::Judge => judge.push(key),
                Fate::Flush => flush.push(key),
            }
            mark(&mut self.used, flow.target);
        }
        let read = self.flows.len();
        self.tally.flows += read as u64;
        self.name(maps, Op::Judge, &judge)?;
        self.name(maps, Op::Flush, &flush)?;
        Ok(read)
    }

    fn sweep_replies(
        &mut self,
        maps: &FamilyMaps<F>,
        context: &Context<'_, F::Addr>,
    ) -> Result<usize, Error> {
        self.replies.read(&maps.replies, &mut self.cursor).map_err(Error::read("replies", Self::SUFFIX))?;
        let mut judge = Vec::new();
        for (key, reply) in self.replies.entries() {
            let owner = reply.owner();
            let target = named_target(&mut self.targets, maps, owner.target)?;
            if candidates::reply(&key, &owner, reply.activity(), &target, context.now, self.passes) {
                judge.push(key);
            }
            mark(&mut self.used, owner.target);
        }
        let read = self.replies.len();
        self.tally.replies += read as u64;
        self.name(maps, Op::Replies, &judge)?;
        Ok(read)
    }

    fn look_at_fragments(
        &mut self,
        maps: &FamilyMaps<F>,
        context: &Context<'_, F::Addr>,
    ) -> Result<usize, Error> {
        self.fragments
            .read(&maps.fragments, &mut self.cursor)
            .map_err(Error::read("fragments", Self::SUFFIX))?;
        for (_, fragment) in self.fragments.entries() {
            if candidates::fragment_is_alive(&fragment, context.now) {
                mark(&mut self.used, fragment.target as u16);
            }
        }
        Ok(self.fragments.len())
    }

    fn name<K: Pod>(&mut self, maps: &FamilyMaps<F>, op: Op, keys: &[K]) -> Result<(), Error> {
        self.tally.named += keys.len() as u64;
        for packet in packets(op, keys) {
            let deleted = maps
                .sweep
                .run(&packet)
                .map_err(|source| Error::Sweep { family: Self::SUFFIX, source: Box::new(source) })?;
            self.tally.deleted += u64::from(deleted);
        }
        Ok(())
    }

    const SUFFIX: &'static str = <F::Addr as IpBytes>::SUFFIX;
}

/// The target that an entry names. One that was unset when the pass began has been used since, so it is read again.
fn named_target<F: LoaderFamily<Addr: IpBytes>>(
    known: &mut [Target<F::Addr>],
    maps: &FamilyMaps<F>,
    slot: u16,
) -> Result<Target<F::Addr>, Error> {
    let Some(target) = known.get_mut(usize::from(slot)) else { return Ok(Target::default()) };
    if slot != 0 && target.state == TARGET_UNSET {
        *target = read::target(maps, slot)?;
    }
    Ok(*target)
}

fn mark(used: &mut [bool], slot: u16) {
    if let Some(used) = used.get_mut(usize::from(slot)) {
        *used = true;
    }
}
