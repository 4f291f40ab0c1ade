//! What can be told of a gateway whose daemon does not run: what its pins and its devices say.

use anyhow::Result;

use crate::bpf::pins::Pins;
use crate::status::Status;

/// The status by the pinned maps alone.
pub fn status(pins: &Pins) -> Result<Status> {
    anyhow::bail!("nothing is pinned at {}", pins.dir().display())
}
