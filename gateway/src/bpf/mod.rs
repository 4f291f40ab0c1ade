//! The loader's side of the data path: embed, load, pin, attach, upgrade, clean up.
//!
//! Everything is pinned per gateway (see [`pins`]), so the data path outlives the loader: killed, restarted or upgraded, it
//! takes up what is there. The order is always the same: [`preconditions::check`], [`DataPath::load`] (programs and maps, with
//! the contents of an earlier run), the caller fills [`DataPath::maps`], `attach`. No packet meets empty tables.

mod attach;
mod clsact;
mod datapath;
mod error;
mod families;
mod fdinfo;
mod hops;
mod liveness;
mod load;
pub mod maps;
mod object;
mod packet_log;
mod pin_attached;
pub mod pins;
pub mod preconditions;
mod report;
mod retire;
mod rtnl;
mod slots;
mod sweep;
mod sys;
mod tcx;
mod xdp;

pub use attach::{Attached, Devices, Hook};
pub use datapath::{DataPath, LoadOptions};
pub use error::Error;
pub use families::{Families, LoaderFamily};
pub use maps::{FamilyMaps, Maps, SharedMaps};
pub use object::Objects;
pub use pin_attached::pin_attached;
pub use pins::{GatewayId, Pins};
pub use report::{Attachment, MapUse, attachments, map_use, pinned_families};
pub use retire::{cleanup, remove_dead_siblings};
pub use slots::Direction;
pub use sweep::Sweep;
pub use sys::redirect_by_xdp;
