//! One change of one map.

use std::fmt;

use sluice_gateway_ebpf::maps::{Config, SERVICE_HAS_RANGES, Service, ServiceKey, Target};
use sluice_gateway_ebpf::maps::{TARGET_ACTIVE, TARGET_DRAINING, TARGET_REMOVED};

use super::{
    address::{IpBytes, Prefix},
    desired::protocol_name,
};

/// One change of one map. The order of a plan's steps is what keeps every state in between safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the programs' settings.
    Config(Config),
    /// Zero the counters of a service id that is about to be used anew.
    ResetStats(u32),
    /// A change of the IPv4 maps.
    V4(FamilyStep<[u8; 4]>),
    /// A change of the IPv6 maps.
    V6(FamilyStep<[u8; 16]>),
}

/// One change of one of a family's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyStep<A> {
    /// Insert or replace an entry of `services`.
    PutService(ServiceKey<A>, Service),
    /// Delete an entry of `services`.
    DeleteService(ServiceKey<A>),
    /// Write a slot of `targets`.
    PutTarget(u16, Target<A>),
    /// Admit clients to a service id.
    PutRange(u32, Prefix<A>),
    /// Stop admitting them.
    DeleteRange(u32, Prefix<A>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(config) => write!(f, "config: {config:?}"),
            Self::ResetStats(id) => write!(f, "service_stats[{id}]: zero"),
            Self::V4(step) => step.fmt(f),
            Self::V6(step) => step.fmt(f),
        }
    }
}

impl<A: IpBytes> fmt::Display for FamilyStep<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = A::SUFFIX;
        match self {
            Self::PutService(key, service) => write!(
                f,
                "services_{family}[{}]: service {}, targets {}+{}{}, generation {}",
                show_key(key),
                service.id,
                service.first_target,
                service.target_count,
                if service.flags & SERVICE_HAS_RANGES != 0 { ", restricted" } else { "" },
                service.generation
            ),
            Self::DeleteService(key) => write!(f, "services_{family}[{}]: delete", show_key(key)),
            Self::PutTarget(slot, target) => write!(
                f,
                "targets_{family}[{slot}]: {}, {} port {} from {}, service {}, generation {}",
                state_name(target.state),
                target.address.ip(),
                target.port,
                target.snat.ip(),
                target.service,
                target.generation
            ),
            Self::PutRange(id, prefix) => write!(f, "ranges_{family}[{id}, {prefix}]: admit"),
            Self::DeleteRange(id, prefix) => write!(f, "ranges_{family}[{id}, {prefix}]: delete"),
        }
    }
}

/// A key of `services` for people.
pub fn show_key<A: IpBytes>(key: &ServiceKey<A>) -> String {
    format!("{} port {}/{}", key.vip.ip(), key.port, protocol_name(key.protocol))
}

fn state_name(state: u8) -> &'static str {
    match state {
        TARGET_ACTIVE => "active",
        TARGET_DRAINING => "draining",
        TARGET_REMOVED => "removed",
        _ => "unset",
    }
}
