//! Bringing programs to devices, whatever was there before.

use std::ffi::CStr;

use aya::programs::SchedClassifier;
use tracing::info;

use super::{
    clsact,
    error::Error,
    families::Families,
    pins::Pins,
    slots::{Slot, slots},
    tcx,
};
use crate::status::Role;

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX links, Linux 6.6 and newer.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl Hook {
    /// The best that this kernel has.
    pub fn detect() -> Result<Self, Error> {
        let tcx = tcx::is_supported().map_err(Error::device("ask for TCX", "lo"))?;
        Ok(if tcx { Self::Tcx } else { Self::Clsact })
    }

    /// How the gateway with these pins is attached, whatever the kernel could do.
    pub fn in_use(pins: &Pins) -> Result<Self, Error> {
        Ok(if clsact::is_used(&pins.dir())? { Self::Clsact } else { Self::Tcx })
    }

    /// The name that `status` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Names of the two devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// Where clients come from.
    pub external: String,
    /// Where targets are.
    pub cluster: String,
}

impl Devices {
    /// The device of that role.
    pub fn name(&self, role: Role) -> &str {
        match role {
            Role::External => &self.external,
            Role::Cluster => &self.cluster,
        }
    }
}

/// What [`super::DataPath::attach`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Programs newly attached, and programs put in place of others; 0 and 0 when everything was in order.
    pub attached: usize,
    /// See `attached`.
    pub updated: usize,
    /// Devices that do not exist (now). Call again when they appear.
    pub missing: Vec<String>,
    /// What could not be taken away of what is no longer used. It does not stop the service.
    pub leftovers: Vec<String>,
}

/// A device of this thread's network namespace.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub name: String,
    pub index: u32,
}

impl Device {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let index = nix::net::if_::if_nametoindex(name).ok()?;
        Some(Self { name: name.to_owned(), index })
    }

    pub(super) fn by_index(index: u32) -> Option<Self> {
        let name = nix::net::if_::if_indextoname(index).ok()?;
        // nix answers with an empty name, not with an error, if there is no such device.
        let name = CStr::to_str(&name).ok().filter(|name| !name.is_empty())?;
        Some(Self { name: name.to_owned(), index })
    }
}

/// What happened to one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The right program was there.
    None,
    /// There was none of ours.
    Attached,
    /// Another version was there.
    Updated {
        /// Id of the program that was replaced.
        old: u32,
    },
}

/// Attaches the pinned programs of `families`. Devices that do not exist are left out and named in the result.
pub(super) fn attach(
    pins: &Pins,
    families: Families,
    devices: &Devices,
    hook: Hook,
) -> Result<Attached, Error> {
    let mut result = Attached::default();
    for slot in slots(families) {
        let name = devices.name(slot.role);
        let Some(device) = Device::by_name(name) else {
            if !result.missing.iter().any(|missing| missing == name) {
                result.missing.push(name.to_owned());
            }
            continue;
        };
        match attach_slot(slot, &device, pins, hook)? {
            Change::None => {}
            Change::Attached => result.attached += 1,
            Change::Updated { .. } => result.updated += 1,
        }
    }
    Ok(result)
}

fn attach_slot(slot: &Slot, device: &Device, pins: &Pins, hook: Hook) -> Result<Change, Error> {
    let path = pins.path(slot.program);
    let mut program = SchedClassifier::from_pin(&path).map_err(Error::program("open", path.display()))?;
    let id = program.info().map_err(Error::program("inspect", slot.program))?.id();
    let change = match hook {
        Hook::Tcx => tcx::attach(slot, &mut program, id, device, pins)?,
        Hook::Clsact => clsact::attach(slot, &mut program, id, device, pins)?,
    };
    let (program, direction, mode) = (slot.program, slot.direction.name(), hook.name());
    match change {
        Change::None => {}
        Change::Attached => info!(program, id, device = device.name, direction, mode, "program attached"),
        Change::Updated { old } => {
            info!(program, id, old, device = device.name, direction, mode, "program replaced")
        }
    }
    Ok(change)
}
