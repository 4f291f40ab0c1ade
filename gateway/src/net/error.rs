//! What can go wrong between Sluice and the kernel's network configuration.

use std::{fmt, io};

use super::object::Port;
use super::plan::Step;

/// The network could not be read or watched at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be made.
    #[error("cannot open {what}: {}", explain(source))]
    Socket {
        /// Which socket, and what it needs.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A list could not be read.
    #[error("cannot read the kernel's {what}: {source}")]
    Read {
        /// Links, addresses, rules or routes.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The lists kept changing while they were read.
    #[error("the kernel's {what} changed each time they were read")]
    Unstable {
        /// Links, addresses, rules or routes.
        what: &'static str,
    },
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!("{error}: the capability is missing"),
        _ => error.to_string(),
    }
}

/// A step that failed. The others were tried all the same.
#[derive(Debug)]
pub struct Failure {
    /// What was tried.
    pub step: Step,
    /// Why it failed.
    pub cause: Cause,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.cause)
    }
}

impl std::error::Error for Failure {}

/// Why a step failed, as far as the kernel's answer can be understood.
#[derive(Debug)]
pub enum Cause {
    /// EPERM.
    Capability,
    /// ENODEV: the interface vanished; its return starts a new round.
    NoDevice,
    /// ENETDOWN: the interface was set down meanwhile.
    Down,
    /// EEXIST: somebody else's object appeared in its place.
    Exists,
    /// ENETUNREACH, EHOSTUNREACH: the next hop is no neighbour on this interface.
    Unreachable,
    /// EACCES for an IPv6 address: IPv6 is switched off on this interface.
    Ipv6Disabled(Port),
    /// Anything else.
    Other(io::Error),
}

impl Cause {
    /// Understands the kernel's answer to `step`.
    pub(super) fn new(step: &Step, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::Capability,
            Some(libc::ENODEV) => Self::NoDevice,
            Some(libc::ENETDOWN) => Self::Down,
            Some(libc::EEXIST) => Self::Exists,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => Self::Unreachable,
            Some(libc::EACCES) => match step {
                Step::AddAddress(address) if address.net.addr().is_ipv6() => {
                    Self::Ipv6Disabled(address.port.clone())
                }
                _ => Self::Other(error),
            },
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability => f.write_str("the capability NET_ADMIN is missing"),
            Self::NoDevice => f.write_str("the interface has vanished"),
            Self::Down => f.write_str("the interface is down"),
            Self::Exists => f.write_str("one that is not ours stands in its place"),
            Self::Unreachable => f.write_str("the next hop is not on this interface's network"),
            Self::Ipv6Disabled(port) => {
                write!(f, "IPv6 is switched off on {port} (net.ipv6.conf.{port}.disable_ipv6)")
            }
            Self::Other(error) => error.fmt(f),
        }
    }
}
