//! What is being waited for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

/// Of many reasons to wait, as many are told.
const TOLD: usize = 3;

/// Remembers, and logs each change.
#[derive(Debug, Default)]
pub struct Progress(Mutex<String>);

impl Progress {
    /// What is waited for now; empty: nothing.
    pub fn last(&self) -> String {
        self.lock().clone()
    }

    /// These are waited for.
    pub fn waits(&self, reasons: &[String]) {
        let mut text = reasons.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
        if reasons.len() > TOLD {
            text += &format!("; and {} more", reasons.len() - TOLD);
        }
        let mut last = self.lock();
        if *last != text {
            info!("waiting: {text}");
            *last = text;
        }
    }

    /// Nothing is waited for any more.
    pub fn goes_on(&self) {
        self.lock().clear();
    }

    /// Tries again, every `period`, until `attempt` succeeds.
    pub async fn attempt<T>(&self, period: Duration, attempt: impl AsyncFn() -> anyhow::Result<T>) -> T {
        loop {
            match attempt().await {
                Ok(done) => {
                    self.goes_on();
                    return done;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    let mut last = self.lock();
                    if *last != error {
                        warn!("{error}; trying again");
                        *last = error;
                    }
                }
            }
            tokio::time::sleep(period).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_many_reasons_are_told() {
        let progress = Progress::default();
        let reasons: Vec<String> = (1..=5).map(|number| format!("pod {number}")).collect();
        progress.waits(&reasons[..3]);
        assert_eq!(progress.last(), "pod 1; pod 2; pod 3");
        progress.waits(&reasons);
        assert_eq!(progress.last(), "pod 1; pod 2; pod 3; and 2 more");
        progress.goes_on();
        assert_eq!(progress.last(), "");
    }

    #[tokio::test]
    async fn an_attempt_is_made_until_it_succeeds() {
        let progress = Progress::default();
        let failures = Mutex::new(vec!["first", "second"]);
        let attempt = async || {
            if let Some(failure) = failures.lock().unwrap().pop() {
                assert_eq!(progress.last().is_empty(), failure == "second");
                anyhow::bail!(failure);
            }
            Ok(7)
        };
        assert_eq!(progress.attempt(Duration::ZERO, attempt).await, 7);
        assert_eq!(progress.last(), "");
    }
}
