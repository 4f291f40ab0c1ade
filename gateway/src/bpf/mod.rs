//! The loader's side of the data path: embed, load, pin, attach, upgrade, clean up.
//!
//! Everything is pinned per gateway (see [`pins`]), so the data path outlives the loader: killed, restarted or upgraded, it
//! takes up what is there. The order is always the same: [`preconditions::check`], [`DataPath::load`] (programs and maps, with
//! the contents of an earlier run), the caller fills [`DataPath::maps`], `attach`. No packet meets empty tables.

mod datapath;
mod error;
mod families;
mod load;
pub mod maps;
mod object;
pub mod pins;
pub mod preconditions;
mod sweep;

pub use datapath::{DataPath, LoadOptions};
pub use error::Error;
pub use families::{Families, LoaderFamily};
pub use maps::{FamilyMaps, Maps, SharedMaps};
pub use object::Objects;
pub use pins::{GatewayId, Pins};
pub use sweep::Sweep;
