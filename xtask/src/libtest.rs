//! What Rust's test harness prints of itself, counted.

use std::ops::AddAssign;

/// Results of test cases.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Ran and held.
    pub passed: u32,
    /// Ran and did not.
    pub failed: u32,
    /// Marked `#[ignore]`, so not run.
    pub ignored: u32,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Reads the line with which each test binary ends: `test result: ok. 3 passed; 0 failed; 1 ignored; ..`.
pub fn parse_result(line: &str) -> Option<Counts> {
    let (_verdict, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |name: &str| {
        numbers.split("; ").find_map(|part| part.trim().strip_suffix(name)?.trim_end().parse::<u32>().ok())
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_added() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        let bad = "test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s";
        let mut sum = parse_result(ok).unwrap();
        assert_eq!(sum, Counts { passed: 12, failed: 0, ignored: 1 });
        sum += parse_result(bad).unwrap();
        assert_eq!(sum, Counts { passed: 14, failed: 5, ignored: 1 });
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in [
            "",
            "test net::tests::it ... ok",
            "running 3 tests",
            "test result: ok",
            "a test result: ok. 1 passed;",
        ] {
            assert_eq!(parse_result(line), None, "{line}");
        }
    }
}
