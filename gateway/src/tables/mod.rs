//! What the BPF maps hold: planned from the configuration and the network, applied, swept and read.

mod address;
mod apply;
pub mod batch;
mod clock;
mod contents;
pub mod counters;
mod desired;
mod error;
pub mod flows;
mod names;
pub mod plan;
mod read;
mod step;
pub mod sweep;

pub use address::{IpBytes, Prefix};
pub use apply::apply;
pub use clock::monotonic_seconds;
pub use contents::{Contents, FamilyContents, Vacant};
pub use desired::{Desired, DesiredPort, Entry, PortName, Problem, Side, protocol_name};
pub use error::Error;
pub use names::Names;
pub use read::contents;
pub use step::{FamilyStep, Step};

use crate::bpf::Maps;

/// Makes the maps serve what is desired: reads them, plans, applies, and tells the sweep.
///
/// # Errors
///
/// Those of [`contents`] and [`apply`]. What was changed before the error stays, and is safe; calling again goes on from there.
pub fn reconcile(
    maps: &mut Maps,
    desired: &Desired,
    sweeper: &mut sweep::Sweeper,
) -> Result<plan::Plan, Error> {
    sweeper.attend(maps)?;
    let plan = plan::plan(&contents(maps)?, desired, sweeper.vacant());
    apply(maps, &plan.steps)?;
    sweeper.follow(&plan);
    Ok(plan)
}
