//! Events on Services: each once while it lasts, and again after a while for those who come later.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Resource as _, ResourceExt as _};
use tracing::{info, warn};

use super::writer::{FIELD_MANAGER, WriteError, Writer};
use crate::events::EventReason;

/// The API server forgets Events after an hour: one that still holds is told again before that.
const AGAIN: Duration = Duration::from_secs(45 * 60);
/// `note` of `events.k8s.io/v1` is limited to 1 kB.
const LONGEST: usize = 1000;

/// What was last told of a Service for a reason.
type Told = HashMap<(String, EventReason), (String, Instant)>;

/// Tells people about Services.
pub struct Events {
    writer: Writer,
    instance: String,
    told: Mutex<Told>,
}

impl Events {
    /// `instance` names this process, such as its pod.
    pub fn new(writer: Writer, instance: String) -> Self {
        Self { writer, instance, told: Mutex::default() }
    }

    /// Tells `note` as an Event on `service` and as a log line, unless it was the last that was told for this `reason` and not
    /// long ago. A failure is logged: the next pass tells it again.
    pub async fn tell(&self, service: &Service, reason: EventReason, note: &str) {
        let key = (service.uid().unwrap_or_default(), reason);
        let now = Instant::now();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            // What is older is told again anyway; and its Service may be gone.
            told.retain(|_, (_, at)| now.duration_since(*at) < AGAIN);
            if told.get(&key).is_some_and(|(last, _)| last == note) {
                return;
            }
            told.insert(key.clone(), (note.to_owned(), now));
        }
        let name = format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
        if reason.is_warning() {
            warn!(service = name, reason = reason.as_str(), "{note}");
        } else {
            info!(service = name, reason = reason.as_str(), "{note}");
        }
        if let Err(error) = self.publish(service, reason, note).await {
            if !matches!(error, WriteError::Invalid(_)) {
                self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
            warn!(service = name, %error, "could not write an Event");
        }
    }

    /// What `reason` says no longer holds: if it comes back, it is told at once.
    pub fn over(&self, service: &Service, reasons: &[EventReason]) {
        let uid = service.uid().unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in reasons {
            told.remove(&(uid.clone(), *reason));
        }
    }

    /// Forgets a Service that is gone.
    pub fn forget(&self, uid: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| of != uid);
    }

    async fn publish(&self, service: &Service, reason: EventReason, note: &str) -> Result<(), WriteError> {
        let namespace = service.namespace().unwrap_or_default();
        let kind = if reason.is_warning() { "Warning" } else { "Normal" };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", service.name_any(), fastrand::u64(..))),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(shortened(note)),
            reason: Some(reason.as_str().to_owned()),
            regarding: Some(service.object_ref(&())),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(kind.to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.writer.client().clone(), &namespace);
        self.writer.create(&api, &event).await.map(drop)
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST {
        return note.to_owned();
    }
    let end = (0..=LONGEST - 3).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
    format!("{}...", &note[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        for offset in 0..4 {
            let cut = shortened(&format!("{}{}", "x".repeat(offset), "ü字".repeat(400)));
            assert!(cut.len() <= LONGEST && cut.len() > LONGEST - 8 && cut.ends_with("..."), "{}", cut.len());
        }
    }
}
