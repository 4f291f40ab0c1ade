//! Attaching by filters of a clsact qdisc (kernels before 6.6).
//!
//! A filter has no link and nothing that could be pinned: it stays until somebody deletes it. Ours are known by priority,
//! handle and name. A filter that is changed at the same priority and handle is replaced under RCU (`cls_bpf_change`): a packet
//! meets the old or the new program, never none.
//!
//! What we did to a device is remembered as empty folders beside the pins, the only thing besides pins that bpffs holds.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
};

use aya::programs::{
    Link as _, SchedClassifier, TcError,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use netlink_packet_route::tc::TcFilterBpf;

use super::{
    attach::{Change, Device},
    error::Error,
    pins::Pins,
    rtnl::{self, Filter},
    slots::{Direction, Slot, is_ours},
};

/// Begins the names of folders that say: there are filters of ours on this device.
const USED: &str = "clsact_";
/// Begins the names of folders that say: the qdisc of this device is ours, too.
const MADE: &str = "made_clsact_";

/// Sees to it that `program` (with the id `id`) runs at `slot` of `device`.
pub(super) fn attach(
    slot: &Slot,
    program: &mut SchedClassifier,
    id: u32,
    device: &Device,
    pins: &Pins,
) -> Result<Change, Error> {
    ensure_qdisc(device, pins)?;
    let failed = |action| Error::program(action, format!("{} to {}", slot.program, device.name));
    let at_our_place = |filter: &Filter| filter.priority == Slot::PRIORITY && filter.handle == slot.handle();
    let (link, change) = match filters(device, slot.direction)?.into_iter().find(at_our_place) {
        None => {
            let options = NlOptions { priority: Slot::PRIORITY, handle: slot.handle(), classid: None };
            let options = TcAttachOptions::Netlink(options);
            let attached = program.attach_with_options(&device.name, slot.direction.tc(), options);
            (attached.map_err(failed("attach"))?, Change::Attached)
        }
        Some(filter) if !ours(&filter) => {
            let found = format!(
                "a filter of another owner has priority {} and handle {:#x}",
                filter.priority,
                u32::from(filter.handle)
            );
            return Err(Error::device("attach a filter", &device.name)(io::Error::other(found)));
        }
        Some(filter) if filter.program == Some(id) => return Ok(Change::None),
        Some(filter) => {
            let place = handle_on(slot.direction, Slot::PRIORITY, slot.handle(), device)?;
            let updated = program.attach_to_link(place).map_err(failed("update"))?;
            (updated, Change::Updated { old: filter.program.unwrap_or_default() })
        }
    };
    // Dropped, it would take the filter with it.
    mem::forget(program.take_link(link).map_err(failed("attach"))?);
    Ok(change)
}

/// The program that our filter at `slot` of `device` runs, if there is one.
pub(super) fn attached(slot: &Slot, device: &Device) -> Result<Option<u32>, Error> {
    let ours = |filter: &Filter| ours(filter) && filter.handle == slot.handle();
    Ok(filters(device, slot.direction)?.into_iter().find(ours).and_then(|filter| filter.program))
}

/// Whether the gateway with the pins in `dir` has filters.
pub(super) fn is_used(dir: &Path) -> Result<bool, Error> {
    Ok(!marks(dir, USED)?.is_empty())
}

/// Takes away our filters, from the devices that the folder `dir` remembers, except those that `keep` wants; then what that
/// leaves without a use: the memory of the device, and its qdisc if that is ours and empty. Only devices of this thread's
/// network namespace can be reached.
pub(super) fn detach(dir: &Path, keep: impl Fn(u32, Direction, TcHandle) -> bool) -> Result<(), Error> {
    let mut errors = Vec::new();
    for (ifindex, used) in marks(dir, USED)? {
        if let Err(error) = detach_from(ifindex, &used, dir, &keep) {
            errors.push(error);
        }
    }
    Error::collect(errors)
}

fn detach_from(
    ifindex: u32,
    used: &Path,
    dir: &Path,
    keep: impl Fn(u32, Direction, TcHandle) -> bool,
) -> Result<(), Error> {
    let Some(device) = Device::by_index(ifindex) else {
        return forget(ifindex, used, dir);
    };
    let (mut kept, mut others) = (false, false);
    for direction in [Direction::Egress, Direction::Ingress] {
        for filter in filters(&device, direction)? {
            let handle = filter.handle;
            if !ours(&filter) {
                others = true;
            } else if keep(ifindex, direction, handle) {
                kept = true;
            } else {
                let filter = handle_on(direction, filter.priority, handle, &device)?;
                filter.detach().map_err(Error::program("detach", &device.name))?;
            }
        }
    }
    if kept {
        return Ok(());
    }
    // Between the look and the deed somebody else may add a filter; nothing in the kernel's interface prevents that.
    if !others && made(dir, ifindex).is_dir() {
        rtnl::delete_clsact(ifindex).map_err(Error::device("delete the clsact qdisc", &device.name))?;
    }
    forget(ifindex, used, dir)
}

fn forget(ifindex: u32, used: &Path, dir: &Path) -> Result<(), Error> {
    let made = made(dir, ifindex);
    if made.is_dir() {
        fs::remove_dir(&made).map_err(Error::pin("remove", &made))?;
    }
    fs::remove_dir(used).map_err(Error::pin("remove", used))
}

fn ensure_qdisc(device: &Device, pins: &Pins) -> Result<(), Error> {
    let dir = pins.dir();
    let failed = |source| Error::Device { action: "add a clsact qdisc", device: device.name.clone(), source };
    match rtnl::filter_qdisc(device.index).map_err(failed)?.as_deref() {
        Some("clsact") => {
            // A version with another schema may have made it.
            if pins.other_schemas()?.iter().any(|former| made(former, device.index).is_dir()) {
                mark(&made(&dir, device.index))?;
            }
        }
        Some(other) => {
            let fix = format!(
                "there is a qdisc of kind {other} in its place, which has no egress: replace it by clsact"
            );
            return Err(failed(io::Error::other(fix)));
        }
        None => {
            qdisc_add_clsact(&device.name).map_err(|error| failed(into_io(error)))?;
            mark(&made(&dir, device.index))?;
        }
    }
    mark(&dir.join(format!("{USED}{}", device.index)))
}

fn made(dir: &Path, ifindex: u32) -> PathBuf {
    dir.join(format!("{MADE}{ifindex}"))
}

fn mark(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::pin("make", path)(error)),
        _ => Ok(()),
    }
}

/// Devices that the folder `dir` remembers with `prefix`, each with its mark.
fn marks(dir: &Path, prefix: &str) -> Result<Vec<(u32, PathBuf)>, Error> {
    let ifindex = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
    let folders = super::pins::folders(dir)?;
    Ok(folders.into_iter().filter_map(|path| Some((ifindex(&path)?, path))).collect())
}

fn filters(device: &Device, direction: Direction) -> Result<Vec<Filter>, Error> {
    let filters =
        rtnl::filters(device.index, direction).map_err(Error::device("list the filters", &device.name))?;
    // Handle 0 is the kernel's entry for a priority as such.
    Ok(filters.into_iter().filter(|filter| filter.handle != TcHandle::AUTO_ASSIGN).collect())
}

fn ours(filter: &Filter) -> bool {
    filter.kind == TcFilterBpf::KIND
        && filter.name.as_deref().is_some_and(|name| is_ours(name, filter.priority, filter.handle))
}

fn handle_on(
    direction: Direction,
    priority: u16,
    handle: TcHandle,
    device: &Device,
) -> Result<SchedClassifierLink, Error> {
    SchedClassifierLink::attached(&device.name, direction.tc(), priority, handle, None)
        .map_err(Error::device("find the filter", &device.name))
}

fn into_io(error: TcError) -> io::Error {
    match error {
        TcError::IoError(error) => error,
        TcError::NetlinkError(error) => {
            error.raw_os_error().map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
        }
        other => io::Error::other(other),
    }
}
