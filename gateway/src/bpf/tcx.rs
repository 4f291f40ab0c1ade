//! Attaching by TCX links (Linux 6.6 and newer).
//!
//! A pinned link is taken up by the next loader, which swaps the program inside it: a packet meets the old or the new program,
//! never none. Programs of others on the same hook stay where they are; a new link goes behind them.

use std::{fs, io, os::fd::OwnedFd, path::Path};

use aya::programs::{
    LinkOrder, SchedClassifier,
    links::{FdLink, LinkError, PinnedLink},
    tc::TcAttachOptions,
};

use super::{
    attach::{Change, Device},
    error::Error,
    families::Families,
    fdinfo,
    load::pin_over,
    pins::Pins,
    slots::{Direction, Slot, slots},
    sys::{self, OnHook},
};

/// Whether this kernel has TCX: asks it about the loopback device, which is number 1 in every network namespace.
pub(super) fn is_supported() -> io::Result<bool> {
    match sys::query_tcx(1, Direction::Ingress) {
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
    let former_pins = pins.other_schemas()?.into_iter().map(|dir| dir.join(slot.link_name()));
    let mut stale = None;
    for pin in std::iter::once(own_pin.clone()).chain(former_pins) {
        let Some(link) = sys::open(&pin).map_err(Error::pin("open", &pin))? else { continue };
        let link_id = id_of(&link, &pin)?;
        let Some(held) = on_hook.iter().find(|held| held.link == link_id) else {
            stale = stale.or((pin == own_pin).then_some(link));
            continue;
        };
        if pin != own_pin {
            pin_over(&own_pin, |path| sys::pin(&link, path))?;
        }
        if held.program == id {
            return Ok(Change::None);
        }
        update(program, slot, &own_pin)?;
        return Ok(Change::Updated { old: held.program });
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program
        .attach_with_options(&device.name, slot.direction.tc(), options)
        .map_err(Error::program("attach", format_args!("{} to {}", slot.program, device.name)))?;
    let link = program.take_link(link).map_err(Error::program("attach", slot.program))?;
    let link: FdLink = link.try_into().map_err(unusable(&own_pin))?;
    pin_over(&own_pin, |path| link.pin(path).map(drop).map_err(io::Error::other))?;
    if let Some(stale) = stale {
        // It is on a device that is no longer meant, or on none.
        sys::detach(stale).map_err(Error::pin("detach the link of", &own_pin))?;
    }
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

/// Removes the pins of links in the folder `from` that are pinned in `to` as well: they have been taken over, and must not be
/// detached with what is left in `from`.
pub(super) fn forget_taken_over(from: &Path, to: &Path) -> Result<(), Error> {
    for name in slots(Families { v4: true, v6: true }).map(Slot::link_name) {
        let former = from.join(&name);
        let link = link_at(&former)?;
        if link.is_some() && link == link_at(&to.join(&name))? {
            fs::remove_file(&former).map_err(Error::pin("remove", &former))?;
        }
    }
    Ok(())
}

/// Id of the link pinned at `pin`.
fn link_at(pin: &Path) -> Result<Option<u32>, Error> {
    let link = sys::open(pin).map_err(Error::pin("open", pin))?;
    link.map(|link| id_of(&link, pin)).transpose()
}

fn id_of(link: &OwnedFd, pin: &Path) -> Result<u32, Error> {
    let id = fdinfo::read(link, "link_id").map_err(Error::pin("read", pin))?;
    let missing = || Error::pin("use", pin)(io::Error::other("it is no link"));
    id.and_then(|id| u32::try_from(id).ok()).ok_or_else(missing)
}

/// Swaps the program in the link pinned at `pin`.
fn update(program: &mut SchedClassifier, slot: &Slot, pin: &Path) -> Result<(), Error> {
    let link = PinnedLink::from_pin(pin).map_err(unusable(pin))?;
    let link = FdLink::from(link).try_into().map_err(unusable(pin))?;
    program.attach_to_link(link).map(drop).map_err(Error::program("update", slot.program))
}

fn unusable(pin: &Path) -> impl FnOnce(LinkError) -> Error {
    let pin = pin.to_owned();
    move |error| Error::pin("use", &pin)(io::Error::other(error))
}
