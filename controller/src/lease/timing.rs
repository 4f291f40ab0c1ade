//! How long a lease lasts, and how often it is renewed.

use std::time::Duration;

/// The three periods of a leader election, and the margins between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the others wait after the last renewal that they saw before they take over. Whole seconds: so the Lease says it.
    duration: Duration,
    /// How long after its last renewal a leader may write. What is left of the duration is for writes on their way and for clocks
    /// that run at different speeds.
    renew_deadline: Duration,
    /// Between two renewals, and between two looks of those who wait.
    retry: Duration,
}

/// Periods with which two could lead at once, or nobody for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// See the message.
    #[error("the lease duration must be whole seconds, from 1s to 1h")]
    Duration,
    /// See the message.
    #[error("the renew deadline must be shorter than the lease duration")]
    RenewDeadline,
    /// See the message. The factor leaves room for one renewal that fails.
    #[error("the retry period must be above zero, and at most half of the renew deadline")]
    Retry,
}

impl Timing {
    /// 15 s, 10 s and 2 s, as Kubernetes' own controllers.
    pub const DEFAULT: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };

    /// Checks the periods.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn new(duration: Duration, renew_deadline: Duration, retry: Duration) -> Result<Self, BadTiming> {
        if duration.subsec_nanos() != 0 || !(1..=3600).contains(&duration.as_secs()) {
            Err(BadTiming::Duration)
        } else if renew_deadline >= duration {
            Err(BadTiming::RenewDeadline)
        } else if retry.is_zero() || retry * 2 > renew_deadline {
            Err(BadTiming::Retry)
        } else {
            Ok(Self { duration, renew_deadline, retry })
        }
    }

    /// How long the others wait after the last renewal that they saw.
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// How long after its last renewal a leader may write.
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Between two renewals.
    pub const fn retry(&self) -> Duration {
        self.retry
    }

    /// The duration as a Lease says it.
    pub fn duration_seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_that_do_not_fit_together_are_refused() {
        let ms = Duration::from_millis;
        let timing =
            |duration, deadline, retry| Timing::new(ms(duration), ms(deadline), ms(retry)).map(|_| ());
        assert_eq!(Timing::new(ms(15_000), ms(10_000), ms(2_000)), Ok(Timing::DEFAULT));
        assert_eq!(timing(1_000, 800, 400), Ok(()));
        assert_eq!(timing(1_500, 800, 100), Err(BadTiming::Duration));
        assert_eq!(timing(0, 0, 0), Err(BadTiming::Duration));
        assert_eq!(timing(3_601_000, 800, 100), Err(BadTiming::Duration));
        assert_eq!(timing(2_000, 2_000, 100), Err(BadTiming::RenewDeadline));
        assert_eq!(timing(2_000, 1_000, 501), Err(BadTiming::Retry));
        assert_eq!(timing(2_000, 1_000, 0), Err(BadTiming::Retry));
    }
}
