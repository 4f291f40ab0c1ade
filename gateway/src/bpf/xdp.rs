//! The XDP program on the external device, and what it is told of the way to the targets.
//!
//! It stands before the tc programs, which stay attached and do all that it declines: a moment without it costs speed and no
//! packet. So it comes last, goes first, and is never needed to be ready.

use std::{fs, io};

use aya::{maps::xdp::XdpMapError, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use tracing::info;

use super::{
    attach::{Change, Device},
    error::Error,
    families::Families,
    fdinfo,
    load::pin_over,
    maps::Maps,
    pins::Pins,
    rtnl, sys,
};

/// Name of the link's pin. It begins as those of the tc links do, and is detached with the first of them.
pub(super) const LINK: &str = "link_external_ingress_xdp";

/// What `status` calls this way of attaching.
pub(super) const MODE: &str = "xdp";

/// The XDP program that the device names when `families` are in use. That of the other family stands behind it.
pub(super) const fn program(families: Families) -> &'static str {
    if families.v4 { "xdp_v4" } else { "xdp_v6" }
}

/// Kinds of devices whose driver has no XDP: they stand on another device, and only that has a driver in earnest.
const WITHOUT_XDP: [&str; 5] = ["ipvlan", "macsec", "macvlan", "vlan", "vxlan"];

/// The kind of `device`, if devices of that kind have no native XDP. To try would tell as well, but a driver that has it starts its
/// queues anew for each try.
pub(super) fn without_xdp(device: &Device) -> Result<Option<String>, Error> {
    let facts = rtnl::xdp_device(device.index).map_err(Error::device("ask for the kind", &device.name))?;
    Ok(facts.kind.filter(|kind| WITHOUT_XDP.contains(&kind.as_str())))
}

/// Names the device that the programs send by. It is written each time, since the same index may have been written by the daemon of a
/// namespace that is about to go. The kernel forgets it with the device.
pub(super) fn send_by(pins: &Pins, maps: &mut Maps, cluster: &Device) -> Result<(), Error> {
    let path = pins.path("xdp_device");
    maps.shared.xdp_device.set(0, cluster.index, None, 0).map_err(|error| {
        let source = match error {
            XdpMapError::MapError(source) => source,
            other => io::Error::other(other).into(),
        };
        Error::Map { path, source: Box::new(source) }
    })
}

/// Sees to it that the driver of `device` runs the XDP programs of `families`.
///
/// # Errors
///
/// [`Error::Device`] if the kernel refuses, see [`sys::link_to_xdp`].
pub(super) fn attach(pins: &Pins, families: Families, maps: &mut Maps, device: &Device) -> Result<(), Error> {
    chain(pins, families, maps)?;
    let name = program(families);
    let failed = |action| Error::device(action, &device.name);
    let path = pins.path(name);
    let opened = sys::open(&path).and_then(|program| program.ok_or_else(|| io::ErrorKind::NotFound.into()));
    let program = opened.map_err(Error::pin("open", &path))?;
    let id = fdinfo::read(&program, "prog_id").map_err(Error::pin("read", &path))?;
    let change = match held(pins, device)? {
        Some((_, old)) if Some(u64::from(old)) == id => Change::None,
        Some((link, old)) => {
            sys::update_link(link, &program).map_err(failed("replace the XDP program"))?;
            Change::Updated { old }
        }
        None => {
            detach(pins)?;
            let link = sys::link_to_xdp(&program, device.index).map_err(failed("attach the XDP program"))?;
            pin_over(&pins.path(LINK), |path| sys::pin(&link, path))?;
            Change::Attached
        }
    };
    match change {
        Change::None => {}
        Change::Attached => info!(program = name, id, device = device.name, "XDP program attached"),
        Change::Updated { old } => {
            info!(program = name, id, old, device = device.name, "XDP program replaced")
        }
    }
    Ok(())
}

/// Puts the program of the second family behind that of the first.
fn chain(pins: &Pins, families: Families, maps: &mut Maps) -> Result<(), Error> {
    let path = pins.path("xdp_v6");
    let next = &mut maps.shared.xdp_next;
    let failed = |source| Error::Map { path: pins.path("xdp_next"), source: Box::new(source) };
    if !families.v4 || !families.v6 {
        return match next.clear_index(&0) {
            Err(error) if !super::maps::is_not_found(&error) => Err(failed(error)),
            _ => Ok(()),
        };
    }
    let second =
        Xdp::from_pin(&path, XdpAttachType::Interface).map_err(Error::program("open", path.display()))?;
    let fd = second.fd().map_err(Error::program("open", path.display()))?;
    next.set(0, fd, 0).map_err(failed)
}

/// Takes the XDP program off its device.
pub(super) fn detach(pins: &Pins) -> Result<(), Error> {
    let path = pins.path(LINK);
    let Some(link) = sys::open(&path).map_err(Error::pin("open", &path))? else { return Ok(()) };
    sys::detach(link).map_err(Error::pin("detach the link of", &path))?;
    fs::remove_file(&path).map_err(Error::pin("remove", &path))?;
    info!("XDP program detached");
    Ok(())
}

/// Id of the XDP program of ours that `device` runs.
pub(super) fn attached(pins: &Pins, device: &Device) -> Result<Option<u32>, Error> {
    Ok(held(pins, device)?.map(|(_, program)| program))
}

/// The pinned link and its program, if `device` is where it holds it: a link outlives its device, and one of another namespace may
/// name the same index.
fn held(pins: &Pins, device: &Device) -> Result<Option<(std::os::fd::OwnedFd, u32)>, Error> {
    let path = pins.path(LINK);
    let Some(link) = sys::open(&path).map_err(Error::pin("open", &path))? else { return Ok(None) };
    let read = |key| fdinfo::read(&link, key).map_err(Error::pin("read", &path));
    let (ifindex, program) = (read("ifindex")?, read("prog_id")?);
    let on_device = rtnl::xdp_device(device.index)
        .map_err(Error::device("ask for the XDP program", &device.name))?
        .program;
    let holds = ifindex == Some(device.index.into()) && program == on_device.map(u64::from);
    Ok(on_device.filter(|_| holds).map(|program| (link, program)))
}
