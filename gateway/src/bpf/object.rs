//! The BPF objects that the build embedded.

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// Bytes of the two object files, each with the programs and maps of one family.
#[derive(Clone, Copy, Debug)]
pub struct Objects {
    /// `sluice-v4`; empty if this build has none.
    pub v4: &'static [u8],
    /// `sluice-v6`; empty if this build has none.
    pub v6: &'static [u8],
}

impl Objects {
    /// The objects that were built with this binary.
    pub const EMBEDDED: Self = Self { v4: V4, v6: V6 };
}
