//! Running a family's sweep program.

use std::path::Path;

use aya::{
    TestRun as _, TestRunOptions,
    programs::{ProgramError, SchedClassifier},
};

use super::error::Error;

/// The program that deletes flows: user space names candidates in a packet, the program judges each under the same protocol as
/// the packet path.
pub struct Sweep(SchedClassifier);

impl Sweep {
    /// The program pinned at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        SchedClassifier::from_pin(path).map(Self).map_err(Error::program("open", path.display()))
    }

    /// Runs the program once on `packet` (at least 14 bytes, the Ethernet header) and returns what it returned.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the run, which it does for lack of CAP_NET_ADMIN and CAP_BPF, or for too short a packet.
    pub fn run(&self, packet: &[u8]) -> Result<u32, ProgramError> {
        let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
        Ok(self.0.test_run(options)?.return_value)
    }
}
