//! Flags of the leader election.

use anyhow::Context as _;

use super::time::Time;
use crate::lease::Timing;

/// Several controllers may run: one leads and writes, the others stand by.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Leader election")]
pub(super) struct Election {
    /// Whether to write only while holding the Lease; without it, no second controller may run
    #[arg(long, env = "SLUICE_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub leader_elect: bool,
    /// Namespace of the Lease; if absent, the controller's own
    #[arg(long, env = "SLUICE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// How long the others wait for a silent leader before they take over, in whole seconds
    #[arg(long, env = "SLUICE_LEASE_DURATION", default_value = "15s", value_name = "TIME")]
    lease_duration: Time,
    /// How long a leader that cannot renew goes on; then it ends, and is started anew
    #[arg(long, env = "SLUICE_LEASE_RENEW_DEADLINE", default_value = "10s", value_name = "TIME")]
    lease_renew_deadline: Time,
    /// Between two renewals
    #[arg(long, env = "SLUICE_LEASE_RETRY_PERIOD", default_value = "2s", value_name = "TIME")]
    lease_retry_period: Time,
}

impl Election {
    /// The periods.
    ///
    /// # Errors
    /// They do not fit together.
    pub(super) fn timing(&self) -> anyhow::Result<Timing> {
        Timing::new(self.lease_duration.0, self.lease_renew_deadline.0, self.lease_retry_period.0)
            .context("--lease-duration, --lease-renew-deadline, --lease-retry-period")
    }
}

/// Name of the Lease of controllers that serve `namespace`: those with different scopes lead beside each other.
pub(super) fn lease_name(namespace: Option<&str>) -> String {
    namespace
        .map_or_else(|| "sluice-controller".to_owned(), |namespace| format!("sluice-controller-{namespace}"))
}

/// A name in the Lease that no other process has, one that ran before in the same pod included.
pub(super) fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), fastrand::u64(..))
}
