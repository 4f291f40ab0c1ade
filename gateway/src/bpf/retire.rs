//! Taking away: what a gateway no longer uses, gateways whose pod is gone, and all of a gateway on request.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::programs::tc::TcHandle;
use sluice_gateway_ebpf::maps::SHARED_MAPS;
use tracing::{info, warn};

use super::{
    attach::{Device, Devices, Hook},
    clsact,
    error::Error,
    families::Families,
    liveness::{self, Namespace},
    load,
    pins::{Pins, folders},
    slots::{Direction, LINK_PREFIX, slots},
    sys, tcx, xdp,
};

/// How long a folder may be without a link to its namespace, which is the first thing in it and the last to go. Its gateway
/// may be just making it.
const GRACE: Duration = Duration::from_secs(60);

/// Takes away what this gateway has attached or pinned and no longer uses: of a family, a device, a hook or a schema that was
/// in use before. To be called once the new things are attached.
pub(super) fn unused(pins: &Pins, families: Families, devices: &Devices, hook: Hook) -> Result<(), Error> {
    let dir = pins.dir();
    let mut errors = Vec::new();
    let keep_filter = |ifindex: u32, direction: Direction, handle: TcHandle| {
        hook == Hook::Clsact
            && slots(families).any(|slot| {
                let device = Device::by_name(devices.name(slot.role));
                slot.direction == direction
                    && slot.handle() == handle
                    && device.is_some_and(|d| d.index == ifindex)
            })
    };
    errors.extend(clsact::detach(&dir, keep_filter).err());

    let used = used_names(families, hook);
    match files(&dir) {
        Ok(files) => {
            let unused = files
                .into_iter()
                .filter(|path| !path.file_name().is_some_and(|n| used.iter().any(|used| n == used.as_str())));
            errors.extend(unlink(unused.collect()).err());
        }
        Err(error) => errors.push(error),
    }
    for old in pins.other_schemas()? {
        warn!(folder = %old.display(), "the maps' layout has changed with this version: flows made before it are lost");
        // What is in use of its filters and links has been taken over and stays.
        let removed = clsact::detach(&old, keep_filter)
            .and_then(|()| tcx::forget_taken_over(&old, &dir))
            .and_then(|()| whole_folder(&old));
        errors.extend(removed.err());
        remove_if_empty(old.parent());
    }
    Error::collect(errors)
}

/// Names of every pin that a gateway with `families` may have. Whether it has XDP is decided elsewhere.
fn used_names(families: Families, hook: Hook) -> Vec<String> {
    let mut names: Vec<String> = SHARED_MAPS.iter().map(ToString::to_string).collect();
    names.extend([liveness::NAME, xdp::LINK].map(str::to_owned));
    names.extend(load::map_names(families));
    names.extend(load::program_names(families));
    if hook == Hook::Tcx {
        names.extend(slots(families).map(super::slots::Slot::link_name));
    }
    names
}

/// Removes the folders of gateways of this node whose network namespace is gone. Failures to remove are logged: they concern
/// somebody else. To be repeated, because the kernel takes a namespace apart some time after its last process has ended.
///
/// # Errors
///
/// The folder of all gateways cannot be read.
pub fn remove_dead_siblings(pins: &Pins) -> Result<(), Error> {
    for sibling in pins.siblings()? {
        let removed = match is_dead(&sibling) {
            Ok(true) => whole_folder(&sibling),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                info!(folder = %sibling.display(), "removed the pins of a gateway whose network namespace is gone");
                remove_if_empty(sibling.parent());
            }
            Err(error) => {
                warn!(folder = %sibling.display(), %error, "could not remove the pins of a gateway that is gone")
            }
        }
    }
    Ok(())
}

fn is_dead(dir: &Path) -> Result<bool, Error> {
    Ok(match liveness::of(dir)? {
        Namespace::Alive(_) => false,
        Namespace::Dead => true,
        // A clock that jumps is no reason to remove anything: then the age is unknown.
        Namespace::Unknown => {
            let changed = dir
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map_err(Error::pin("inspect", dir))?;
            changed.elapsed().is_ok_and(|age| age > GRACE)
        }
    })
}

/// Removes everything that this gateway has attached and pinned, of every schema, and nothing else. To be called in its network
/// namespace, or its clsact filters stay.
///
/// # Errors
///
/// All that went wrong; one failure does not keep the rest from being removed.
pub fn cleanup(pins: &Pins) -> Result<(), Error> {
    let mut errors = Vec::new();
    let mut dirs = pins.other_schemas()?;
    dirs.push(pins.dir());
    for dir in dirs.into_iter().filter(|dir| dir.is_dir()) {
        errors.extend(whole_gateway(&dir).err());
        remove_if_empty(dir.parent());
    }
    remove_if_empty(Some(&pins.root()));
    Error::collect(errors)
}

/// Detaches and removes everything of the gateway with the pins in `dir`, which is in this network namespace.
fn whole_gateway(dir: &Path) -> Result<(), Error> {
    let filters = clsact::detach(dir, |_, _, _| false);
    let folder = whole_folder(dir);
    Error::collect(filters.err().into_iter().chain(folder.err()).collect())
}

/// Removes a folder of pins, and thereby its TCX links: first the links, last the one that says whose it is.
fn whole_folder(dir: &Path) -> Result<(), Error> {
    let mut errors = Vec::new();
    let (last, pins): (Vec<_>, Vec<_>) =
        files(dir)?.into_iter().partition(|path| path.ends_with(liveness::NAME));
    errors.extend(unlink(pins).err());
    for mark in folders(dir)? {
        errors.extend(fs::remove_dir(&mark).map_err(Error::pin("remove", &mark)).err());
    }
    if errors.is_empty() {
        errors.extend(unlink(last).err());
        errors.extend(fs::remove_dir(dir).map_err(Error::pin("remove", dir)).err());
    }
    Error::collect(errors)
}

/// Removes pins: links first, those that forward before those that handle replies. Links are detached then and there.
fn unlink(mut pins: Vec<PathBuf>) -> Result<(), Error> {
    let name =
        |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    pins.sort_by_key(|path| {
        let name = name(path);
        (!name.starts_with(LINK_PREFIX), !name.contains("external_ingress"), name)
    });
    let removed = pins.iter().map(|pin| {
        if name(pin).starts_with(LINK_PREFIX)
            && let Some(link) = sys::open(pin).map_err(Error::pin("open", pin))?
        {
            sys::detach(link).map_err(Error::pin("detach the link of", pin))?;
        }
        match fs::remove_file(pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::pin("remove", pin)(error)),
            _ => Ok(()),
        }
    });
    Error::collect(removed.filter_map(Result::err).collect())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::pin("read", dir)(error);
    let mut files = Vec::new();
    for entry in dir.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_type().map_err(failed)?.is_dir() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Removes a folder that several gateways share, once the last is gone. It does not matter whether that succeeds.
fn remove_if_empty(dir: Option<&Path>) {
    if let Some(dir) = dir {
        let _ = fs::remove_dir(dir);
    }
}
