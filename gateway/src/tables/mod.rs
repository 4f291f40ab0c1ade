//! What the BPF maps hold: planned from the configuration and the network, applied, swept and read.

mod address;
mod contents;
mod desired;
pub mod plan;
mod step;

pub use address::{IpBytes, Prefix};
pub use contents::{Contents, FamilyContents, Vacant};
pub use desired::{Desired, DesiredPort, Entry, PortName, Problem, Side, protocol_name};
pub use step::{FamilyStep, Step};
