//! Leader election: of several controllers one writes, and it knows at each write that it still may.
//!
//! ```text
//! leader    renews |--retry--|--retry--|   stopped or cut off        gate closes      others take over
//!                                      ^ last renewal ----------- renew deadline ------- duration
//! ```

mod candidate;
mod elector;
mod gate;
#[cfg(test)]
mod tests;
mod timing;

pub use elector::{Elector, Lost};
pub use gate::Gate;
pub use timing::{BadTiming, Timing};
