//! Loading one family's object: its maps from their pins, its programs anew.

use std::{fs, io, path::Path};

use aya::{
    EbpfLoader,
    maps::{MapInfo, MapType},
    programs::Program,
};
use aya_obj::generated::BPF_F_RDONLY_PROG;
use sluice_gateway_ebpf::{
    family::{V4, V6},
    maps::{FAMILY_MAPS, SHARED_MAPS},
};
use tracing::{info, warn};

use super::{
    error::Error,
    families::{Families, LoaderFamily},
    maps::is_not_found,
    object::Objects,
    packet_log,
    pins::Pins,
};

/// Maps whose size is a setting.
const SIZED_MAPS: [&str; 2] = ["flows", "replies"];

/// What identifies a map's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    flags: u32,
    max_entries: u32,
}

/// What becomes of a map that may be pinned already.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// There was none.
    Create,
    /// The pinned one fits.
    Reuse,
    /// The pinned one fits, but has another number of entries than the configuration asks for.
    KeepSize { pinned: u32 },
    /// The pinned one does not fit.
    Replace { pinned: Shape },
}

/// A map keeps its contents whenever the programs can use it. A hash map cannot be resized, and to replace one is to lose its
/// flows; so a changed `maxFlows` waits until the gateway is made anew, which for a gateway in a pod is when the controller
/// changes the pod's memory limit along with it.
fn fate(wanted: &Shape, pinned: Option<&Shape>, sized: bool) -> Fate {
    let Some(pinned) = pinned else { return Fate::Create };
    if pinned == wanted {
        Fate::Reuse
    } else if sized && (Shape { max_entries: wanted.max_entries, ..*pinned }) == *wanted {
        Fate::KeepSize { pinned: pinned.max_entries }
    } else {
        Fate::Replace { pinned: *pinned }
    }
}

/// Loads the object of family `F`: maps are taken from their pins or made and pinned, programs are loaded and their pins
/// replaced. Nothing is attached. `max_flows` is rounded up to a power of two.
pub(super) fn load<F: LoaderFamily>(pins: &Pins, objects: &Objects, max_flows: u32) -> Result<(), Error> {
    let family = family_name::<F>();
    let bytes = F::object(objects);
    if bytes.is_empty() {
        return Err(Error::NoObjects);
    }
    let max_flows = entries(max_flows);
    let names = MapNames::of::<F>();
    let shapes = shapes::<F>(bytes, &names, max_flows)?;
    for (name, wanted) in &shapes {
        settle(&pins.path(name), name, wanted, names.is_sized(name))?;
    }

    let mut loader = EbpfLoader::new();
    for (name, _) in &shapes {
        loader.map_pin_path(name.as_str(), pins.path(name));
    }
    for name in &names.sized {
        loader.map_max_entries(name, max_flows);
    }
    let mut loaded = loader.load(bytes).map_err(|source| Error::Load { family, source: Box::new(source) })?;
    for stem in F::PROGRAMS {
        let name = format!("{stem}{}", F::SUFFIX);
        let program = loaded.program_mut(&name).ok_or_else(|| missing::<F>(&name))?;
        match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            other => return Err(unexpected::<F>(&name, other.prog_type())),
        }
        .map_err(Error::program("load", &name))?;
        pin_over(&pins.path(&name), |path| program.pin(path).map_err(io::Error::other))?;
    }
    packet_log::follow(&mut loaded);
    Ok(())
}

/// The flow tables of `families` that do not have the size that `max_flows` asks for, with their entries.
pub(super) fn kept_sizes(
    pins: &Pins,
    families: Families,
    max_flows: u32,
) -> Result<Vec<(String, u32)>, Error> {
    let mut kept = Vec::new();
    for name in names::<V4>(families, &SIZED_MAPS).chain(names::<V6>(families, &SIZED_MAPS)) {
        let pinned = pinned_shape(&pins.path(&name))?;
        let other = pinned.filter(|shape| shape.max_entries != entries(max_flows));
        kept.extend(other.map(|shape| (name, shape.max_entries)));
    }
    Ok(kept)
}

/// Entries of a flow table for `max_flows`.
const fn entries(max_flows: u32) -> u32 {
    max_flows.next_power_of_two()
}

/// Names of the maps of `families`, without the shared ones.
pub(super) fn map_names(families: Families) -> Vec<String> {
    names::<V4>(families, &FAMILY_MAPS).chain(names::<V6>(families, &FAMILY_MAPS)).collect()
}

/// Names of the programs of `families`.
pub(super) fn program_names(families: Families) -> Vec<String> {
    names::<V4>(families, V4::PROGRAMS).chain(names::<V6>(families, V6::PROGRAMS)).collect()
}

fn names<F: LoaderFamily>(families: Families, stems: &[&str]) -> impl Iterator<Item = String> {
    stems.iter().filter(move |_| F::in_use(families)).map(|stem| format!("{stem}{}", F::SUFFIX))
}

/// The family's name in messages: `v4` or `v6`.
pub(super) fn family_name<F: LoaderFamily>() -> &'static str {
    F::SUFFIX.trim_start_matches('_')
}

/// Names of a family's maps, and of the shared ones, as pins and `bpftool` show them.
struct MapNames {
    all: Vec<String>,
    sized: Vec<String>,
}

impl MapNames {
    fn of<F: LoaderFamily>() -> Self {
        let own = |stem: &str| format!("{stem}{}", F::SUFFIX);
        let shared = SHARED_MAPS.iter().map(ToString::to_string);
        Self {
            all: FAMILY_MAPS.iter().map(|stem| own(stem)).chain(shared).collect(),
            sized: SIZED_MAPS.iter().map(|stem| own(stem)).collect(),
        }
    }

    fn is_sized(&self, name: &str) -> bool {
        self.sized.iter().any(|sized| sized == name)
    }
}

/// The layouts that the object asks for.
fn shapes<F: LoaderFamily>(
    bytes: &[u8],
    names: &MapNames,
    max_flows: u32,
) -> Result<Vec<(String, Shape)>, Error> {
    let object = aya_obj::Object::parse(bytes).map_err(|error| Error::Object {
        family: family_name::<F>(),
        problem: format!("cannot be read ({error})"),
    })?;
    let shape = |name: &String| {
        let map = object.maps.get(name).ok_or_else(|| missing::<F>(name))?;
        let max_entries = if names.is_sized(name) { max_flows } else { map.max_entries() };
        let shape = Shape {
            map_type: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            flags: map.map_flags(),
            max_entries,
        };
        Ok((name.clone(), shape))
    };
    names.all.iter().map(shape).collect()
}

fn missing<F: LoaderFamily>(name: &str) -> Error {
    Error::Object { family: family_name::<F>(), problem: format!("has no {name}") }
}

fn unexpected<F: LoaderFamily>(name: &str, kind: aya::programs::ProgramType) -> Error {
    Error::Object { family: family_name::<F>(), problem: format!("has {name} as a program of type {kind:?}") }
}

/// Leaves the pin of a map that fits, and removes that of one that does not.
fn settle(path: &Path, name: &str, wanted: &Shape, sized: bool) -> Result<(), Error> {
    let pinned = pinned_shape(path)?;
    match fate(wanted, pinned.as_ref(), sized) {
        Fate::Create => info!(map = name, entries = wanted.max_entries, "map is made"),
        Fate::Reuse => {}
        Fate::KeepSize { pinned } => warn!(
            map = name,
            entries = pinned,
            configured = wanted.max_entries,
            "the map keeps its size and its flows: another maxFlows takes effect when the gateway is made anew (its pod, or after \
             `sluice-gateway cleanup`)"
        ),
        Fate::Replace { pinned } => {
            warn!(
                map = name,
                ?pinned,
                ?wanted,
                "the pinned map is of another layout and is replaced; its contents are lost"
            );
            fs::remove_file(path).map_err(Error::pin("remove", path))?;
        }
    }
    Ok(())
}

fn pinned_shape(path: &Path) -> Result<Option<Shape>, Error> {
    let unreadable = |source| Error::Map { path: path.to_owned(), source: Box::new(source) };
    let info = match MapInfo::from_pin(path) {
        Ok(info) => info,
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let map_type = info.map_type().map_err(unreadable)?;
    // Flags that the kernel adds, and takes from nobody.
    let own = if map_type == MapType::DevMap { BPF_F_RDONLY_PROG } else { 0 };
    Ok(Some(Shape {
        map_type: map_type as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        flags: info.map_flags() & !own,
        max_entries: info.max_entries(),
    }))
}

/// Pins something at `path`, in place of what is pinned there, with no moment in which nothing is.
pub(super) fn pin_over(path: &Path, pin: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("_new");
    let beside = Path::new(&name);
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::pin("remove", beside)(error));
        }
        _ => {}
    }
    pin(beside).map_err(Error::pin("make", beside))?;
    fs::rename(beside, path).map_err(Error::pin("replace", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOWS: Shape = Shape { map_type: 1, key_size: 16, value_size: 16, flags: 0, max_entries: 1024 };

    #[test]
    fn a_map_is_reused_only_with_the_same_layout() {
        assert_eq!(fate(&FLOWS, None, true), Fate::Create);
        assert_eq!(fate(&FLOWS, Some(&FLOWS), true), Fate::Reuse);
        for other in [
            Shape { map_type: 9, ..FLOWS },
            Shape { key_size: 20, ..FLOWS },
            Shape { value_size: 24, ..FLOWS },
            Shape { flags: 1, ..FLOWS },
        ] {
            assert_eq!(fate(&FLOWS, Some(&other), true), Fate::Replace { pinned: other });
        }
    }

    #[test]
    fn only_a_flow_table_may_keep_another_size() {
        let larger = Shape { max_entries: 4096, ..FLOWS };
        assert_eq!(fate(&FLOWS, Some(&larger), true), Fate::KeepSize { pinned: 4096 });
        assert_eq!(fate(&FLOWS, Some(&larger), false), Fate::Replace { pinned: larger });
    }
}
