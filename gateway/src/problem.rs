//! What a gateway says is wrong, for those who look after many of them: `GET /problems`.

use serde::{Deserialize, Serialize};

/// Something that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which kind, in one word: `FileRefused`, `NotReady`, `FlowTableFull`, `PortsExhausted`, `FlowTableNearlyFull`, `SweepFailed`,
    /// `NotEverythingWorks`. A later version may know more.
    pub reason: String,
    /// What is wrong and what to do about it. The same words as long as it is the same problem.
    pub message: String,
    /// Packets that were dropped for it, ever: it is a problem of now only while this grows. `None`: it is one now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}
