//! Which IP families a gateway serves, and what they are called.

use sluice_gateway_ebpf::family::{Family, V4, V6};

use super::{
    maps::{FamilyMaps, Maps},
    object::Objects,
};

/// The families in use. Programs are loaded and maps made for these only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// A family as user space handles it: its map types, the suffix of its names, its object.
pub trait LoaderFamily: Family<Reply: aya::Pod> {
    /// What the family's maps and programs end in: `_v4` or `_v6`.
    const SUFFIX: &'static str;
    /// Stems of the names of the programs that are attached to devices or run by the sweeper, in the order of loading.
    const PROGRAMS: &'static [&'static str];
    /// Whether `families` has this one.
    fn in_use(families: Families) -> bool;
    /// This family's object file.
    fn object(objects: &Objects) -> &'static [u8];
    /// This family's maps.
    fn of(maps: &Maps) -> &Option<FamilyMaps<Self>>;
    /// This family's maps, to be written.
    fn of_mut(maps: &mut Maps) -> &mut Option<FamilyMaps<Self>>;
}

impl LoaderFamily for V4 {
    const SUFFIX: &'static str = "_v4";
    const PROGRAMS: &'static [&'static str] = &["forward", "reverse", "egress", "xdp", "sweep"];
    fn in_use(families: Families) -> bool {
        families.v4
    }
    fn object(objects: &Objects) -> &'static [u8] {
        objects.v4
    }
    fn of(maps: &Maps) -> &Option<FamilyMaps<Self>> {
        &maps.v4
    }
    fn of_mut(maps: &mut Maps) -> &mut Option<FamilyMaps<Self>> {
        &mut maps.v4
    }
}

impl LoaderFamily for V6 {
    const SUFFIX: &'static str = "_v6";
    const PROGRAMS: &'static [&'static str] = &["forward", "reverse", "xdp", "sweep"];
    fn in_use(families: Families) -> bool {
        families.v6
    }
    fn object(objects: &Objects) -> &'static [u8] {
        objects.v6
    }
    fn of(maps: &Maps) -> &Option<FamilyMaps<Self>> {
        &maps.v6
    }
    fn of_mut(maps: &mut Maps) -> &mut Option<FamilyMaps<Self>> {
        &mut maps.v6
    }
}
