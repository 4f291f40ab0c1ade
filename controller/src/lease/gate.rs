//! The right to write, and until when.

use std::time::Instant;

use tokio::sync::watch;

/// Says whether this process leads. Every write asks it, so that a process which was stopped for longer than its lease lasts
/// writes nothing when it goes on.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Until when its holder may write, by this process's clock; `None`: it is not held. Without an election, nothing.
    until: Option<watch::Receiver<Option<Instant>>>,
}

impl Gate {
    /// A gate, and what moves it: the task that holds the lease sends until when.
    pub fn new() -> (watch::Sender<Option<Instant>>, Self) {
        let (sender, until) = watch::channel(None);
        (sender, Self { until: Some(until) })
    }

    /// The gate of a controller that stands for no election: always open.
    pub const fn without_election() -> Self {
        Self { until: None }
    }

    /// Whether a write may be made now. Never, once the task that holds the lease is gone.
    pub fn is_open(&self) -> bool {
        self.until.as_ref().is_none_or(|until| until.has_changed().is_ok() && is_ahead(*until.borrow()))
    }

    /// Waits until it is open. Never returns once the task that gets the lease is gone: its end is the process's.
    pub async fn opened(&self) {
        let Some(mut until) = self.until.clone() else { return };
        if until.wait_for(|until| is_ahead(*until)).await.is_err() {
            std::future::pending().await
        }
    }
}

fn is_ahead(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_open_while_the_lease_lasts_and_its_task_lives() {
        let (lease, gate) = Gate::new();
        assert!(!gate.is_open());
        lease.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        assert!(gate.is_open());
        lease.send_replace(Instant::now().checked_sub(Duration::from_millis(1)));
        assert!(!gate.is_open());
        lease.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
        drop(lease);
        assert!(!gate.is_open());
    }
}
