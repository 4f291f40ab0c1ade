//! What can go wrong with the maps.

use std::io;

use aya::{maps::MapError, programs::ProgramError};

/// Errors of reading, writing and sweeping the maps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A map could not be read.
    #[error("read the map {map}")]
    Read {
        /// Its name.
        map: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A slot of a map could not be read.
    #[error("read {map}[{key}]")]
    Get {
        /// The map's name.
        map: String,
        /// The key.
        key: String,
        /// The kernel's reason.
        source: Box<MapError>,
    },
    /// A change was refused. Those before it are made, those after it are not; each state in between is safe.
    #[error("write {step}")]
    Write {
        /// Map, key and value.
        step: String,
        /// The kernel's reason.
        source: Box<MapError>,
    },
    /// A map has no room.
    #[error("write {step}: the map is full; {advice}")]
    Full {
        /// Map, key and value.
        step: String,
        /// What to do.
        advice: String,
    },
    /// A family is asked for whose maps are not loaded.
    #[error("write {step}: the family's maps are not loaded")]
    NoFamily {
        /// Map, key and value.
        step: String,
    },
    /// The sweep program could not be run.
    #[error("run the program sweep_{family}")]
    Sweep {
        /// `v4` or `v6`.
        family: &'static str,
        /// The kernel's reason.
        source: Box<ProgramError>,
    },
    /// The number of CPUs is not known, so per-CPU maps cannot be written.
    #[error("read {file}")]
    Cpus {
        /// The file that says it.
        file: &'static str,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: reading the map `stem` of the family `suffix` failed.
    pub(super) fn read(stem: &str, suffix: &str) -> impl FnOnce(io::Error) -> Self {
        let map = format!("{stem}_{suffix}");
        move |source| Self::Read { map, source }
    }

    /// For `map_err`: reading the slot `key` of `map` failed.
    pub(super) fn get(map: impl ToString, key: impl ToString) -> impl FnOnce(MapError) -> Self {
        let (map, key) = (map.to_string(), key.to_string());
        move |source| Self::Get { map, key, source: Box::new(source) }
    }
}
