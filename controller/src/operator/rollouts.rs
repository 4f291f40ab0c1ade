//! Gateway pods that serve are replaced a few at a time: a new image for all of them must not stop all Services at once, and one that does not
//! start must not stop more than a few.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A replacement that takes longer no longer keeps others waiting: what is wrong with a Service stops that Service alone.
const PATIENCE: Duration = Duration::from_secs(120);

/// Replacements that are under way.
#[derive(Debug)]
pub struct Rollouts {
    limit: usize,
    /// Since when, by the Service's UID.
    under_way: Mutex<HashMap<String, Instant>>,
}

impl Rollouts {
    /// At most `limit` at a time; at least one.
    pub fn new(limit: u16) -> Self {
        Self { limit: usize::from(limit).max(1), under_way: Mutex::default() }
    }

    /// Whether the pod of the Service `uid` may be replaced `now`. If so, it counts as under way until [`Self::ended`].
    pub fn may_start(&self, uid: &str, now: Instant) -> bool {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.contains_key(uid) {
            return true;
        }
        let counted = under_way.values().filter(|since| now.duration_since(**since) < PATIENCE).count();
        if counted >= self.limit {
            return false;
        }
        under_way.insert(uid.to_owned(), now);
        true
    }

    /// The Service `uid` is served again, or gone.
    pub fn ended(&self, uid: &str) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_a_time() {
        let (rollouts, now) = (Rollouts::new(2), Instant::now());
        assert!(rollouts.may_start("a", now) && rollouts.may_start("b", now));
        assert!(!rollouts.may_start("c", now));
        assert!(rollouts.may_start("a", now), "its own goes on");
        rollouts.ended("a");
        assert!(rollouts.may_start("c", now));
        assert!(!rollouts.may_start("d", now));
    }

    #[test]
    fn one_that_never_ends_delays_others_but_does_not_stop_them() {
        let (rollouts, now) = (Rollouts::new(0), Instant::now());
        assert!(rollouts.may_start("stuck", now));
        assert!(!rollouts.may_start("next", now + PATIENCE / 2));
        assert!(rollouts.may_start("next", now + PATIENCE));
        assert!(!rollouts.may_start("third", now + PATIENCE), "the limit still holds");
        assert!(rollouts.may_start("stuck", now + PATIENCE), "and so does its own turn");
    }
}
