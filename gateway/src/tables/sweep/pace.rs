//! How much to do when. Pure: times and counts are arguments.

use std::time::Duration;

/// A pass takes this long when there is little to do; the next one begins when it is over.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// What a tick may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Entries to read before the tick ends.
    pub entries: u64,
    /// Time on the CPU before the tick ends.
    pub busy: Duration,
    /// Time from one tick to the next.
    interval: Duration,
}

/// Between two ticks of a leisurely pass; and at most a 32nd of a CPU, which leaves a third of the 5 % that the whole daemon may take for its
/// other work: 1 M flows with their reservations took 0.56 s to read on Linux 6.18 (0.28 us each, cold caches), which makes
/// a pass of 18 s. Each tick takes 0.4 ms: packets may wait that long for the CPU.
const LEISURE: (Duration, u32) = (Duration::from_micros(12_500), 32);
/// Between two ticks of a pass that somebody waits for; and at most 25 % of a CPU.
const HASTE: (Duration, u32) = (Duration::from_millis(20), 4);

/// What the next tick may use up, of a pass that began `age` ago, has `seen` entries and expects `expected`.
pub(super) fn budget(urgent: bool, age: Duration, seen: u64, expected: u64) -> Budget {
    let (interval, share) = if urgent { HASTE } else { LEISURE };
    let ticks = PERIOD.saturating_sub(age).as_micros() / interval.as_micros();
    let left = expected.saturating_sub(seen);
    // Late, or more entries than expected: as many as the time on the CPU allows.
    let entries = if urgent || ticks == 0 || left == 0 { u64::MAX } else { left.div_ceil(ticks as u64) };
    Budget { entries, busy: interval / share, interval }
}

impl Budget {
    /// How long to wait after a tick that took `busy`: a tick that took too long is paid for by a longer wait.
    pub fn wait(&self, busy: Duration) -> Duration {
        let share = self.interval.as_nanos() / self.busy.as_nanos().max(1);
        self.interval.max(busy * share as u32).saturating_sub(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pass must be complete after this long, unless the share of the CPU forbids it.
    const HARD_PERIOD: Duration = Duration::from_secs(30);

    /// Runs a pass over `entries` at `cost` each, in batches, and returns how long it took and its share of the CPU.
    fn pass(entries: u64, expected: u64, cost: Duration, urgent: bool) -> (Duration, f64) {
        let (mut age, mut seen, mut total) = (Duration::ZERO, 0, Duration::ZERO);
        loop {
            let budget = budget(urgent, age, seen, expected);
            let (mut busy, mut read) = (Duration::ZERO, 0);
            while read < budget.entries && busy < budget.busy && seen < entries {
                let batch = 1024.min(entries - seen);
                busy += cost * batch as u32;
                seen += batch;
                read += batch;
            }
            total += busy;
            age += busy;
            if seen == entries {
                return (age, total.as_secs_f64() / age.as_secs_f64());
            }
            age += budget.wait(busy);
        }
    }

    #[test]
    fn a_million_flows_take_less_than_the_hard_period_and_a_32nd() {
        let cost = Duration::from_nanos(300);
        for expected in [2_000_000, 100_000, 2_100_000] {
            let (time, share) = pass(2_000_000, expected, cost, false);
            assert!(time <= HARD_PERIOD, "{time:?}");
            assert!(share <= 0.032, "{share}");
        }
    }

    #[test]
    fn few_flows_cost_next_to_nothing() {
        let (time, share) = pass(10_000, 10_000, Duration::from_nanos(300), false);
        assert!(time <= PERIOD, "{time:?}");
        // The next pass begins when the period is over.
        let share = share * time.as_secs_f64() / PERIOD.as_secs_f64();
        assert!(share < 0.001, "{share}");
    }

    #[test]
    fn somebody_who_waits_does_not_wait_long() {
        let (time, share) = pass(2_000_000, 2_000_000, Duration::from_nanos(300), true);
        assert!(time <= Duration::from_secs(3), "{time:?}");
        assert!(share <= 0.3, "{share}");
    }

    #[test]
    fn a_tick_that_took_too_long_is_followed_by_a_long_wait() {
        let budget = budget(false, Duration::ZERO, 0, 1);
        assert_eq!(budget.wait(Duration::from_micros(300)), Duration::from_micros(12_200));
        assert_eq!(budget.wait(Duration::from_millis(100)), Duration::from_millis(3_100));
    }
}
