//! Whether this process does its work, as its parts say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::operator::Observer;

/// A task counts as hung when it has not shown life for this long. Longer than any request to an API server may take.
const HUNG: Duration = Duration::from_secs(120);
/// The part that is not there yet at the start.
const CONTROLLER: &str = "controller";

/// What the parts of the controller say of themselves; clones share it. Not ready until [`Self::started`].
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// By the part that has it.
    problems: BTreeMap<String, String>,
    /// By the task.
    beats: BTreeMap<&'static str, Instant>,
}

impl Default for Health {
    fn default() -> Self {
        let problems = BTreeMap::from([(CONTROLLER.to_owned(), "it is starting".to_owned())]);
        Self(Arc::new(Mutex::new(State { problems, beats: BTreeMap::new() })))
    }
}

impl Health {
    /// Every part has said by now what it cannot do yet.
    pub fn started(&self) {
        self.problem(CONTROLLER, None);
    }

    /// What `part` cannot do, as a sentence that names the fix; `None`: all is well again. Not ready meanwhile.
    pub fn problem(&self, part: &str, problem: Option<String>) {
        let mut state = self.lock();
        match problem {
            Some(problem) => state.problems.insert(part.to_owned(), problem),
            None => state.problems.remove(part),
        };
    }

    /// `task` is alive now. From its first beat on it is expected to beat more often than every minute.
    pub fn beat(&self, task: &'static str) {
        self.lock().beats.insert(task, Instant::now());
    }

    /// `task` has ended, as it should.
    pub fn ended(&self, task: &'static str) {
        self.lock().beats.remove(task);
    }

    /// Whether every task is at work at `now`; the error says which is not.
    pub(super) fn live(&self, now: Instant) -> Result<(), String> {
        let state = self.lock();
        let silent = |beat: &Instant| now.saturating_duration_since(*beat);
        match state.beats.iter().find(|(_, beat)| silent(beat) >= HUNG) {
            Some((task, beat)) => {
                Err(format!("the task {task} has shown no life for {} s", silent(beat).as_secs()))
            }
            None => Ok(()),
        }
    }

    /// Every reason not to be ready, a line each. Whether this controller leads is none: one that stands by is ready to.
    pub fn not_ready(&self) -> Vec<String> {
        self.lock().problems.iter().map(|(part, problem)| format!("{part}: {problem}")).collect()
    }

    /// A poisoned lock holds a whole value all the same: every change is one insertion or removal.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Health {
    fn watch(&self, kind: &str, problem: Option<String>) {
        self.problem(&format!("watch of {kind}"), problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_started_and_without_problems() {
        let health = Health::default();
        assert_eq!(health.not_ready(), ["controller: it is starting"]);
        health.watch("Subnet", Some("not there".into()));
        health.clone().started();
        assert_eq!(health.not_ready(), ["watch of Subnet: not there"]);
        health.watch("Service", None);
        health.watch("Subnet", None);
        assert!(health.not_ready().is_empty());
    }

    #[test]
    fn a_silent_task_is_not_alive() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.live(now + HUNG), Ok(()));
        health.beat("operator");
        health.beat("lease");
        assert_eq!(health.live(now + HUNG / 2), Ok(()));
        let later = Instant::now() + HUNG;
        assert!(health.live(later).unwrap_err().contains("lease"));
        health.ended("lease");
        assert!(health.live(later).unwrap_err().contains("operator"));
        health.beat("operator");
        assert_eq!(health.live(now + HUNG), Ok(()));
    }
}
