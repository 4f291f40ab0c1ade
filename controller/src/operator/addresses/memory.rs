//! What is remembered of Services between passes, beside the book of reservations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// By the Service's UID.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Services that somebody works on.
    busy: BTreeSet<String>,
    /// What an answer is awaited for, and since when.
    awaited: BTreeMap<String, (String, Instant)>,
    /// Names of the Vips that exist.
    vips: BTreeMap<String, BTreeSet<String>>,
}

impl Memory {
    /// The right to work on a Service, until it is dropped; `None`: somebody else does.
    pub fn turn(&self, uid: &str) -> Option<Turn<'_>> {
        self.lock().busy.insert(uid.to_owned()).then(|| Turn { memory: self, uid: uid.to_owned() })
    }

    /// For how long an answer for `subject` (a pod's UID, a Vip's name) has been awaited, by this process's clock. To await it
    /// begins here, for one subject at a time.
    pub fn awaited(&self, uid: &str, subject: &str) -> Duration {
        let now = Instant::now();
        let mut remembered = self.lock();
        let entry = remembered.awaited.entry(uid.to_owned()).or_insert_with(|| (subject.to_owned(), now));
        if entry.0 != subject {
            *entry = (subject.to_owned(), now);
        }
        now.saturating_duration_since(entry.1)
    }

    /// Nothing is awaited any more. Returns whether something was.
    pub fn answered(&self, uid: &str) -> bool {
        self.lock().awaited.remove(uid).is_some()
    }

    /// The names of the Service's Vips.
    pub fn vips(&self, uid: &str) -> Vec<String> {
        self.lock().vips.get(uid).into_iter().flatten().cloned().collect()
    }

    /// A Vip of the Service exists.
    pub fn has_vip(&self, uid: &str, name: &str) {
        self.lock().vips.entry(uid.to_owned()).or_default().insert(name.to_owned());
    }

    /// It does not exist any more.
    pub fn lacks_vip(&self, uid: &str, name: &str) {
        let mut remembered = self.lock();
        if let Some(names) = remembered.vips.get_mut(uid) {
            names.remove(name);
            if names.is_empty() {
                remembered.vips.remove(uid);
            }
        }
    }

    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Memory::turn`].
#[derive(Debug)]
pub(super) struct Turn<'a> {
    memory: &'a Memory,
    uid: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.memory.lock().busy.remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_at_a_time() {
        let memory = Memory::default();
        let turn = memory.turn("1");
        assert!(turn.is_some() && memory.turn("1").is_none() && memory.turn("2").is_some());
        drop(turn);
        assert!(memory.turn("1").is_some());
    }

    #[test]
    fn another_subject_is_awaited_anew() {
        let memory = Memory::default();
        assert!(!memory.answered("1"));
        memory.awaited("1", "first");
        memory.lock().awaited.get_mut("1").unwrap().1 -= Duration::from_secs(60);
        assert!(memory.awaited("1", "first") >= Duration::from_secs(60));
        assert!(memory.awaited("1", "second") < Duration::from_secs(60));
        assert!(memory.answered("1") && !memory.answered("1"));
    }
}
