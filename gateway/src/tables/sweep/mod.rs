//! The sweep: walks the flow tables a slice at a time and names what may go to the BPF programs that delete.
//!
//! Nothing depends on it for correctness, since the programs judge expiry at each lookup; it gives memory and ports back, ends
//! flows that lost their right to be (removed ports, changed UDP targets, narrowed source ranges), counts, and proves target
//! slots unused. Passes follow each other every ten seconds, or at once and in haste when somebody asks.

mod candidates;
mod pace;
mod packet;
mod pass;
mod report;

use std::{
    io,
    time::{Duration, Instant},
};

use aya::maps::IterableMap as _;
use sluice_gateway_ebpf::family::{V4, V6};

pub use report::{Report, States, Tally};

use self::pass::{Context, FamilySweep};
use super::{
    address::IpBytes,
    clock::{monotonic_seconds, thread_cpu_time},
    contents::Vacant,
    error::Error,
    plan::{Plan, Policy},
};
use crate::bpf::{FamilyMaps, LoaderFamily, Maps};

/// The state of the sweep between ticks. Its memory is bounded by the sizes of batches and of the targets map.
pub struct Sweeper {
    v4: FamilySweep<V4>,
    v6: FamilySweep<V6>,
    policy: Policy,
    /// A complete pass is asked for that begins after the request.
    requested: bool,
    running: Option<Running>,
    last_begin: Option<Instant>,
    expected: Option<u64>,
    vacant: Vacant,
    report: Option<Report>,
    /// Kernel ids of the targets maps, IPv4 and IPv6, that all this was learnt from.
    maps: [Option<u32>; 2],
}

struct Running {
    begin: Instant,
    urgent: bool,
    seen: u64,
    busy: Duration,
}

/// What a tick did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// How long to wait before the next; less if a pass is asked for meanwhile.
    pub wait: Duration,
    /// Time on the CPU.
    pub busy: Duration,
    /// What a pass found, if one was completed.
    pub completed: Option<Report>,
}

impl Default for Sweeper {
    fn default() -> Self {
        Self {
            v4: FamilySweep::new(),
            v6: FamilySweep::new(),
            policy: Policy::default(),
            // Whatever an earlier process meant to sweep.
            requested: true,
            running: None,
            last_begin: None,
            expected: None,
            vacant: Vacant::default(),
            report: None,
            maps: [None; 2],
        }
    }
}

impl Sweeper {
    /// Takes note of a plan that has been applied.
    pub fn follow(&mut self, plan: &Plan) {
        if self.policy != plan.policy {
            self.policy.clone_from(&plan.policy);
        }
        if plan.sweep {
            self.request();
        }
    }

    /// Forgets what was learnt from other maps than these: a family's maps may be made anew under a running daemon, and a
    /// slot of the old ones proves nothing about the new.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn attend(&mut self, maps: &Maps) -> Result<(), Error> {
        let now = [id(maps.v4.as_ref())?, id(maps.v6.as_ref())?];
        if self.maps != now {
            let policy = std::mem::take(&mut self.policy);
            *self = Self { policy, maps: now, ..Self::default() };
        }
        Ok(())
    }

    /// Asks for a complete pass that begins now.
    pub fn request(&mut self) {
        self.requested = true;
    }

    /// Target slots that the last pass proved unused: what [`super::plan::plan`] may use anew.
    pub fn vacant(&self) -> &Vacant {
        &self.vacant
    }

    /// What the last complete pass found.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Does a slice of work.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Get`], [`Error::Sweep`]. The pass is given up, and the next tick begins a new one.
    pub fn tick(&mut self, maps: &Maps) -> Result<Tick, Error> {
        let result = self.slice(maps);
        if result.is_err() {
            self.running = None;
            // Somebody may have been waiting for the pass.
            self.requested = true;
        }
        result
    }

    /// Makes one complete pass, without pauses.
    ///
    /// # Errors
    ///
    /// As [`Self::tick`].
    pub fn pass(&mut self, maps: &Maps) -> Result<Report, Error> {
        self.running = None;
        self.requested = true;
        loop {
            if let Some(report) = self.tick(maps)?.completed {
                return Ok(report);
            }
        }
    }

    fn slice(&mut self, maps: &Maps) -> Result<Tick, Error> {
        self.attend(maps)?;
        let (start, cpu) = (Instant::now(), thread_cpu_time());
        let mut running = match self.running.take() {
            Some(running) => running,
            None => match self.due(start) {
                Some(wait) => return Ok(Tick { wait, busy: Duration::ZERO, completed: None }),
                None => self.begin(maps, start)?,
            },
        };
        running.urgent |= self.requested;
        let expected = self.expected.unwrap_or_else(|| capacity(maps));
        let age = start.duration_since(running.begin);
        let budget = pace::budget(running.urgent, age, running.seen, expected);
        let config = maps.shared.config.get(&0, 0).map_err(Error::get("config", 0))?;
        let mut read = 0;
        let mut complete = false;
        while !complete && read < budget.entries && thread_cpu_time().saturating_sub(cpu) < budget.busy {
            match self.step(maps, &config.timeouts, monotonic_seconds())? {
                Some(entries) => read += entries,
                None => complete = true,
            }
        }
        let busy = thread_cpu_time().saturating_sub(cpu);
        running.seen += read;
        running.busy += busy;
        let completed = complete.then(|| self.end(&running));
        let wait = match (&completed, self.due(start)) {
            (Some(_), Some(until_next)) => until_next,
            _ => budget.wait(busy),
        };
        if completed.is_none() {
            self.running = Some(running);
        }
        Ok(Tick { wait, busy, completed })
    }

    /// How long until the next pass may begin; `None`: now.
    fn due(&self, now: Instant) -> Option<Duration> {
        let next = self.last_begin.filter(|_| !self.requested)? + pace::PERIOD;
        next.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    fn begin(&mut self, maps: &Maps, now: Instant) -> Result<Running, Error> {
        if let Some(maps) = &maps.v4 {
            self.v4.begin(maps, now)?;
        }
        if let Some(maps) = &maps.v6 {
            self.v6.begin(maps, now)?;
        }
        self.last_begin = Some(now);
        let urgent = std::mem::take(&mut self.requested);
        Ok(Running { begin: now, urgent, seen: 0, busy: Duration::ZERO })
    }

    fn step(
        &mut self,
        maps: &Maps,
        timeouts: &sluice_gateway_ebpf::maps::Timeouts,
        now: u32,
    ) -> Result<Option<u64>, Error> {
        if let Some(maps) = &maps.v4 {
            let context = Context { admitted: &self.policy.v4, timeouts, now };
            if let Some(read) = self.v4.step(maps, &context)? {
                return Ok(Some(read));
            }
        }
        match &maps.v6 {
            Some(maps) => self.v6.step(maps, &Context { admitted: &self.policy.v6, timeouts, now }),
            None => Ok(None),
        }
    }

    fn end(&mut self, running: &Running) -> Report {
        let (v4, vacant4) = self.v4.end();
        let (v6, vacant6) = self.v6.end();
        self.vacant = Vacant { v4: vacant4, v6: vacant6 };
        // A table that grows is not to upset the next pass's pace.
        self.expected = Some(running.seen + running.seen / 4);
        let report = Report { duration: running.begin.elapsed(), busy: running.busy, v4, v6 };
        self.report = Some(report.clone());
        report
    }
}

/// The kernel's id of the family's targets map.
fn id<F: LoaderFamily<Addr: IpBytes>>(maps: Option<&FamilyMaps<F>>) -> Result<Option<u32>, Error> {
    let Some(maps) = maps else { return Ok(None) };
    let info = maps.targets.map().info().map_err(io::Error::other);
    Ok(Some(info.map_err(Error::read("targets", <F::Addr as IpBytes>::SUFFIX))?.id()))
}

/// Entries that the flow tables can hold.
fn capacity(maps: &Maps) -> u64 {
    fn of<F: LoaderFamily>(maps: Option<&FamilyMaps<F>>) -> u64 {
        let entries = maps.and_then(|maps| maps.flows.map().info().ok()).map_or(0, |info| info.max_entries());
        2 * u64::from(entries)
    }
    of(maps.v4.as_ref()) + of(maps.v6.as_ref())
}
