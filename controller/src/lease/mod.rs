//! Leader election: of several controllers one writes, and it knows at each write that it still may.

mod gate;

pub use gate::Gate;
