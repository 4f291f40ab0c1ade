//! Durations as people write them, in whole seconds.

use std::ops::RangeInclusive;

/// Seconds of `text`, such as `30s`, `2m`, `1h 30m` or `5d`.
///
/// # Errors
/// What is wrong with `text`, and what to write instead.
pub(super) fn read(text: &str, bounds: &RangeInclusive<u32>) -> Result<u32, (String, String)> {
    let fix = || format!("write a duration from {} to {}", write(*bounds.start()), write(*bounds.end()));
    let duration = humantime::parse_duration(text).map_err(|fault| {
        (format!("`{text}` is not a duration ({fault})"), format!("{}, such as 30s or 2m", fix()))
    })?;
    if duration.subsec_nanos() != 0 {
        return Err((format!("`{text}` is not a whole number of seconds"), fix()));
    }
    u32::try_from(duration.as_secs())
        .ok()
        .filter(|seconds| bounds.contains(seconds))
        .ok_or_else(|| (format!("`{text}` is out of bounds"), fix()))
}

/// `seconds` as [`read`] takes them, in the largest unit that divides them: humantime's own form of 90 days is
/// `2months 29days 2h 52m 48s`.
pub(super) fn write(seconds: u32) -> String {
    let (size, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(size, _)| seconds != 0 && seconds.is_multiple_of(*size))
        .unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_can_write_them() {
        for (text, seconds) in
            [("30s", 30), ("2m", 120), ("1h 30m", 5_400), ("1h30m", 5_400), ("5d", 432_000)]
        {
            assert_eq!(read(text, &(1..=u32::MAX)), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        let fault = |text| read(text, &(1..=86_400)).map_err(|(fault, _)| fault);
        assert!(fault("60").unwrap_err().contains("is not a duration"), "a bare number has no unit");
        assert_eq!(fault("1500ms").unwrap_err(), "`1500ms` is not a whole number of seconds");
        assert_eq!(fault("0s").unwrap_err(), "`0s` is out of bounds");
        assert_eq!(fault("25h").unwrap_err(), "`25h` is out of bounds");
        assert_eq!(fault("200y").unwrap_err(), "`200y` is out of bounds");
        let (_, fix) = read("25h", &(1..=86_400)).unwrap_err();
        assert_eq!(fix, "write a duration from 1s to 1d");
    }

    proptest! {
        #[test]
        fn written_durations_read_the_same(seconds: u32) {
            prop_assert_eq!(read(&write(seconds), &(0..=u32::MAX)), Ok(seconds));
        }
    }
}
