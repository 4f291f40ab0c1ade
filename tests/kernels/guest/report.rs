//! Results in the form that the test harness prints, for cases that run one after the other in one process.

use std::process::ExitCode;

use anyhow::Result;

/// Results so far.
#[derive(Default)]
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Runs one case. Those after it run even if it fails.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        match run() {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(error) => {
                self.failed += 1;
                println!("test {name} ... FAILED: {error:#}");
            }
        }
    }

    /// Prints the summary line.
    pub fn finish(self) -> ExitCode {
        let Self { passed, failed } = self;
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {verdict}. {passed} passed; {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
