//! Periods on the command line, such as `30s` or `1m 30s`.

use std::str::FromStr;
use std::time::Duration;

/// A period; longer than any other is a year, so that sums do not overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub Duration);

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<humantime::Duration>() {
            Ok(time) if *time <= LONGEST => Ok(Self(*time)),
            Ok(_) => Err("longer than a year".to_owned()),
            Err(error) => Err(format!("{error}; write a time such as 30s")),
        }
    }
}
