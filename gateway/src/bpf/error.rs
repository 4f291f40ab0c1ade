//! What can go wrong between the loader and the kernel.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use super::preconditions::Unmet;

/// Errors of loading, pinning and attaching. Each names its object; where the user can act it says how.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build had no BPF objects.
    #[error(
        "built without its BPF programs: run `cargo xtask build-ebpf` first, then build the loader again"
    )]
    NoObjects,
    /// The kernel or the pod lacks something.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// Neither family is in use.
    #[error("no IP family is in use: the configuration has no VIP")]
    NoFamily,
    /// Nothing is pinned for this gateway.
    #[error("no gateway is running here: {} does not exist", dir.display())]
    NotRunning {
        /// The folder that was looked for.
        dir: PathBuf,
    },
    /// An object file is not what this build expects: a mixture of versions.
    #[error("the BPF object for {family} {problem}; build programs and loader from the same source")]
    Object {
        /// The names' suffix, without the underscore.
        family: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The kernel refused an object.
    #[error("load the programs for {family} into the kernel")]
    Load {
        /// The names' suffix, without the underscore.
        family: &'static str,
        /// The kernel's reason.
        source: Box<EbpfError>,
    },
    /// A pinned map could not be opened.
    #[error("open the map {}", path.display())]
    Map {
        /// The pin.
        path: PathBuf,
        /// The kernel's reason.
        source: Box<MapError>,
    },
    /// Something failed with a program.
    #[error("{action} the program {object}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// The program, and where.
        object: String,
        /// The kernel's reason.
        source: Box<ProgramError>,
    },
    /// A file operation on the BPF file system failed.
    #[error("{action} the pin {}", path.display())]
    Pin {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A call to the kernel about a device failed.
    #[error("{action} on {device}")]
    Device {
        /// What was tried.
        action: &'static str,
        /// The device's name or index.
        device: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// There is no such device (yet).
    #[error("there is no interface {name}; the programs are attached when it appears")]
    NoDevice {
        /// The interface's name.
        name: String,
    },
    /// Several things failed; cleaning up goes on after an error.
    #[error("{}", list(.0))]
    Several(Vec<Error>),
}

impl Error {
    /// For `map_err`: a file operation that failed on `path`.
    pub(super) fn pin(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Pin { action, path, source }
    }

    /// For `map_err`: `action` that failed on the program `object`.
    pub(super) fn program<E: Into<ProgramError>>(
        action: &'static str,
        object: impl fmt::Display,
    ) -> impl FnOnce(E) -> Self {
        let object = object.to_string();
        move |source| Self::Program { action, object, source: Box::new(source.into()) }
    }

    /// For `map_err`: `action` that failed on `device`.
    pub(super) fn device(action: &'static str, device: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let device = device.to_string();
        move |source| Self::Device { action, device, source }
    }

    /// Each error with its causes.
    pub(super) fn texts(&self) -> Vec<String> {
        if let Self::Several(errors) = self {
            return errors.iter().flat_map(Self::texts).collect();
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        vec![text]
    }

    /// One error for all of `errors`, if there are any.
    pub(super) fn collect(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// The errors with their causes, separated by semicolons: a list has no single source.
fn list(errors: &[Error]) -> String {
    errors.iter().flat_map(Error::texts).collect::<Vec<_>>().join("; ")
}
