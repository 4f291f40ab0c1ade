//! Attaching by TCX links (Linux 6.6 and newer).
//!
//! A pinned link is taken up by the next loader, which swaps the program inside it: a packet meets the old or the new program,
//! never none. Programs of others on the same hook stay where they are; a new link goes behind them.

use std::{io, path::Path};

use aya::programs::{
    LinkOrder, SchedClassifier,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLinkId, TcAttachOptions},
};

use super::{
    attach::{Change, Device},
    error::Error,
    fdinfo,
    load::pin_over,
    pins::Pins,
    slots::Slot,
    sys::{self, OnHook},
};

/// Whether this kernel has TCX: asks it about the loopback device, which is number 1 in every network namespace.
pub(super) fn is_supported() -> io::Result<bool> {
    match sys::query_tcx(1, super::slots::Direction::Ingress) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sees to it that `program` (with the id `id`) runs at `slot` of `device`, held by the slot's pinned link.
///
/// A link that is pinned is not therefore attached: it outlives its device and its namespace, and seen from another namespace
/// looks the same as in its own. What counts is whether the device itself names the link.
pub(super) fn attach(
    slot: &Slot,
    program: &mut SchedClassifier,
    id: u32,
    device: &Device,
    pins: &Pins,
) -> Result<Change, Error> {
    let on_hook = on_hook(slot, device)?;
    let own_pin = pins.path(&slot.link_name());
    let mut candidates = vec![own_pin.clone()];
    candidates.extend(pins.other_schemas()?.into_iter().map(|dir| dir.join(slot.link_name())));
    for pin in candidates {
        let Some(held) = link_at(&pin)?.and_then(|link| on_hook.iter().find(|held| held.link == link)) else {
            continue;
        };
        if held.program == id && pin == own_pin {
            return Ok(Change::None);
        }
        let link =
            PinnedLink::from_pin(&pin).map_err(|error| Error::pin("open", &pin)(io::Error::other(error)))?;
        let link = FdLink::from(link)
            .try_into()
            .map_err(|error| Error::pin("use", &pin)(io::Error::other(error)))?;
        let link = program.attach_to_link(link).map_err(Error::program("update", slot.program))?;
        if pin != own_pin {
            pin_link(program, link, slot, &own_pin)?;
        }
        return Ok(Change::Updated { old: held.program });
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program
        .attach_with_options(&device.name, slot.direction.tc(), options)
        .map_err(Error::program("attach", format_args!("{} to {}", slot.program, device.name)))?;
    // This drops the pin of a link to a device that is gone or no longer meant, and with it the link.
    pin_link(program, link, slot, &own_pin)?;
    Ok(Change::Attached)
}

/// The program that `slot`'s link in the folder `dir` holds on `device`, if it really does.
pub(super) fn attached(slot: &Slot, device: &Device, dir: &Path) -> Result<Option<u32>, Error> {
    let link = link_at(&dir.join(slot.link_name()))?;
    let on_hook = on_hook(slot, device)?;
    Ok(on_hook.into_iter().find(|held| Some(held.link) == link).map(|held| held.program))
}

fn on_hook(slot: &Slot, device: &Device) -> Result<Vec<OnHook>, Error> {
    sys::query_tcx(device.index, slot.direction)
        .map_err(Error::device("query the TCX programs", &device.name))
}

/// Id of the link pinned at `pin`.
fn link_at(pin: &Path) -> Result<Option<u32>, Error> {
    let Some(link) = sys::open(pin).map_err(Error::pin("open", pin))? else { return Ok(None) };
    let id = fdinfo::read(&link, "link_id").map_err(Error::pin("read", pin))?;
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

fn pin_link(
    program: &mut SchedClassifier,
    link: SchedClassifierLinkId,
    slot: &Slot,
    path: &Path,
) -> Result<(), Error> {
    let link = program.take_link(link).map_err(Error::program("attach", slot.program))?;
    let link: FdLink = link.try_into().map_err(|error| Error::pin("make", path)(io::Error::other(error)))?;
    pin_over(path, |path| link.pin(path).map(drop).map_err(io::Error::other))
}
