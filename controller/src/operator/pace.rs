//! How often a Service is looked at. Whoever undoes each of our writes at once must not make us write as fast as we can, for ever.

use std::time::{Duration, Instant};

/// Passes that may follow each other at once: several times as many as the busiest change takes.
const BURST: u32 = 50;
/// Between two passes, after that.
const PERIOD: Duration = Duration::from_secs(1);

/// The pace of one Service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When all passes so far would be over if there was one each [`PERIOD`].
    worked_off: Option<Instant>,
}

impl Pace {
    /// Counts a pass `now`; or says in what time there may be one.
    pub fn start(&mut self, now: Instant) -> Result<(), Duration> {
        let worked_off = self.worked_off.map_or(now, |worked_off| worked_off.max(now));
        let ahead = worked_off - now;
        let most = PERIOD * (BURST - 1);
        if ahead > most {
            return Err(ahead - most);
        }
        self.worked_off = Some(worked_off + PERIOD);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_and_then_one_each_period() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let started = (0..1000).filter(|_| pace.start(now).is_ok()).count();
        assert_eq!(started, 50);
        assert_eq!(pace.start(now), Err(PERIOD));
        assert_eq!(pace.start(now + PERIOD / 4), Err(PERIOD * 3 / 4));
        assert_eq!(pace.start(now + PERIOD), Ok(()));
        assert_eq!(pace.start(now + PERIOD), Err(PERIOD));
        let later = now + PERIOD * 11;
        assert_eq!((0..1000).filter(|_| pace.start(later).is_ok()).count(), 10);
        let much_later = now + PERIOD * 1000;
        assert_eq!((0..1000).filter(|_| pace.start(much_later).is_ok()).count(), 50);
    }
}
