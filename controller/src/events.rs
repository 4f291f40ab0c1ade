//! What Events say: every reason that Sluice uses, and warnings that become Events.

use std::fmt;

/// Reasons of Events on Services, as `kubectl describe` shows them. docs/controller.md tells what to do about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventReason {
    /// The Service has its addresses.
    AddressGiven,
    /// The addresses are published: a gateway serves them.
    Served,
    /// The addresses are no longer published: no gateway has been ready for the grace period.
    Withdrawn,
    /// The Service cannot be served as it is written.
    Refused,
    /// Something outside of Sluice is waited for.
    Waiting,
    /// The gateway pod does not come up.
    GatewayNotReady,
    /// What the gateway itself reports to be wrong.
    GatewayProblem,
    /// An object of a name that Sluice needs belongs to somebody else.
    ForeignObject,
    /// Somebody asked for more than one gateway.
    ReplicasReset,
    /// Kube-OVN's own load balancer is on as well.
    KubeOvnLbSvcEnabled,
    /// `spec.sessionAffinity` has not the effect that its author expects.
    SessionAffinityIgnored,
    /// `spec.externalTrafficPolicy: Local` has no effect.
    ExternalTrafficPolicyIgnored,
    /// `spec.internalTrafficPolicy: Local` makes the gateway reach pods of its own node only.
    InternalTrafficPolicyLocal,
    /// The network's configuration is not JSON, and Multus will refuse it.
    CommentInNetwork,
    /// An annotation has Sluice's prefix, and Sluice does not know it.
    UnknownAnnotation,
    /// The API server, or an admission webhook, refused an object.
    ApplyFailed,
}

impl EventReason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::AddressGiven,
        Self::Served,
        Self::Withdrawn,
        Self::Refused,
        Self::Waiting,
        Self::GatewayNotReady,
        Self::GatewayProblem,
        Self::ForeignObject,
        Self::ReplicasReset,
        Self::KubeOvnLbSvcEnabled,
        Self::SessionAffinityIgnored,
        Self::ExternalTrafficPolicyIgnored,
        Self::InternalTrafficPolicyLocal,
        Self::CommentInNetwork,
        Self::UnknownAnnotation,
        Self::ApplyFailed,
    ];

    /// Those of [`Warning`]s.
    pub const ADVICE: [Self; 5] = [
        Self::SessionAffinityIgnored,
        Self::ExternalTrafficPolicyIgnored,
        Self::InternalTrafficPolicyLocal,
        Self::CommentInNetwork,
        Self::UnknownAnnotation,
    ];

    /// The reason as Events write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressGiven => "AddressGiven",
            Self::Served => "Served",
            Self::Withdrawn => "Withdrawn",
            Self::Refused => "Refused",
            Self::Waiting => "Waiting",
            Self::GatewayNotReady => "GatewayNotReady",
            Self::GatewayProblem => "GatewayProblem",
            Self::ForeignObject => "ForeignObject",
            Self::ReplicasReset => "ReplicasReset",
            Self::KubeOvnLbSvcEnabled => "KubeOvnLbSvcEnabled",
            Self::SessionAffinityIgnored => "SessionAffinityIgnored",
            Self::ExternalTrafficPolicyIgnored => "ExternalTrafficPolicyIgnored",
            Self::InternalTrafficPolicyLocal => "InternalTrafficPolicyLocal",
            Self::CommentInNetwork => "CommentInNetwork",
            Self::UnknownAnnotation => "UnknownAnnotation",
            Self::ApplyFailed => "ApplyFailed",
        }
    }

    /// Whether an Event of it is of type `Warning`; the others are `Normal`.
    pub const fn is_warning(self) -> bool {
        !matches!(self, Self::AddressGiven | Self::Served | Self::Waiting)
    }
}

impl fmt::Display for EventReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that works otherwise than its author may expect, and keeps nothing from being served. `Display` is the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The reason of its Event.
    pub reason: EventReason,
    /// Object, field, fault and what to do about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
