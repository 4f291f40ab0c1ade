//! What the guest prints on its serial console.
//!
//! Lines that begin with [`MARK`] are the guest's own reports; between them stands what the tests print.
//!
//! | line                            | meaning                                            |
//! |---------------------------------|----------------------------------------------------|
//! | `@sluice begin NAME`            | a step starts                                      |
//! | `@sluice end NAME CODE`         | it ended with this exit code (128 + signal if killed) |
//! | `@sluice program NAME COUNT`    | a BPF program and its verified instructions        |
//! | `@sluice kernel TAINT`          | taint flags in decimal (proc(5), sys/kernel/tainted) |
//! | `@sluice done`                  | all steps were run; the guest powers off           |

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// First word of a report.
pub const MARK: &str = "@sluice ";
/// Taint flags of a kernel that has oopsed (bit 7) or warned (bit 9): a defect, even if all tests passed.
const TAINT_FAULT: u64 = 1 << 7 | 1 << 9;

/// The verdict on one guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Tests that passed, by step.
    pub passed: BTreeMap<String, u32>,
    /// Verified instructions by program name.
    pub programs: BTreeMap<String, u32>,
}

/// Reads a console. Fails unless each of `steps` ran at least one test and ended with exit code 0, the guest came to its
/// end, and the kernel reported no fault of its own.
pub fn judge(console: &str, steps: &[&str]) -> Result<Results> {
    let mut results = Results::default();
    let mut ended = BTreeMap::new();
    let (mut current, mut done) = (None, false);
    for line in console.lines().map(str::trim_end) {
        let Some(report) = line.strip_prefix(MARK) else {
            if let (Some(step), Some(count)) = (&current, passed(line)) {
                *results.passed.entry(String::clone(step)).or_default() += count;
            }
            continue;
        };
        let mut words = report.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut word = || words.next().with_context(|| format!("the guest's report is cut short: {report}"));
        match kind {
            "begin" => current = Some(word()?.to_owned()),
            "end" => {
                let (step, code) = (word()?, word()?);
                ended.insert(step.to_owned(), number::<i32>(code)?);
                current = None;
            }
            "program" => {
                let (name, count) = (word()?, word()?);
                results.programs.insert(name.to_owned(), number(count)?);
            }
            "kernel" => {
                let taint: u64 = number(word()?)?;
                ensure!(taint & TAINT_FAULT == 0, "the kernel warned or oopsed (taint flags {taint})");
            }
            "done" => done = true,
            _ => bail!("an unknown report of the guest: {report}"),
        }
    }
    for step in steps {
        match ended.get(*step) {
            Some(0) => {}
            Some(code) => bail!("step {step} ended with exit code {code}"),
            None => bail!("step {step} did not come to its end"),
        }
        ensure!(results.passed.get(*step).is_some_and(|count| *count > 0), "step {step} ran no test");
    }
    ensure!(done, "the guest did not come to its end");
    Ok(results)
}

/// The number of tests that a libtest summary line calls passed.
fn passed(line: &str) -> Option<u32> {
    line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok()
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N> {
    word.parse().ok().with_context(|| format!("the guest's report has {word:?} where a number belongs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "boot noise\r\n@sluice begin packet\r\n\
        test a ... ok\r\ntest result: ok. 31 passed; 0 failed; 0 ignored\r\n@sluice end packet 0\r\n\
        @sluice program forward_v4 1234\r\n@sluice kernel 8192\r\n@sluice done\r\n";

    #[test]
    fn a_good_console_yields_counts() {
        let results = judge(GOOD, &["packet"]).unwrap();
        assert_eq!(results.passed["packet"], 31);
        assert_eq!(results.programs["forward_v4"], 1234);
    }

    #[test]
    fn whatever_is_missing_fails() {
        let cases = [
            ("end packet 0", "end packet 101", "exit code 101"),
            ("end packet 0", "end other 0", "did not come to its end"),
            ("31 passed", "0 passed", "ran no test"),
            ("@sluice done", "", "guest did not come to its end"),
            ("kernel 8192", "kernel 8704", "warned or oopsed"),
            ("v4 1234", "v4 ?", "where a number belongs"),
            ("begin packet", "frobnicate", "unknown report"),
        ];
        for (part, instead, message) in cases {
            let error = judge(&GOOD.replace(part, instead), &["packet"]).unwrap_err().to_string();
            assert!(error.contains(message), "{part} -> {instead}: {error}");
        }
        let error = judge(GOOD, &["packet", "end-to-end"]).unwrap_err().to_string();
        assert!(error.contains("step end-to-end did not come to its end"), "{error}");
    }
}
