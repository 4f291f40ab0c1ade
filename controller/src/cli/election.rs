//! Flags of the leader election.

use anyhow::Context as _;
use kube::Client;

use super::time::Time;
use crate::lease::{Elector, Gate, Timing};

/// Several controllers may run: one leads and writes, the others stand by.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Leader election")]
pub(super) struct Election {
    /// Whether to write only while holding the Lease; without it, no second controller may run
    #[arg(long, env = "SLUICE_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    leader_elect: bool,
    /// Namespace of the Lease; if absent, the controller's own
    #[arg(long, env = "SLUICE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
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
    /// Stands for the Lease of controllers that serve `served` (`None`: all namespaces) as `identity`. Without an election, the gate
    /// is always open.
    ///
    /// # Errors
    /// The periods do not fit together.
    pub(super) fn stand(
        self,
        client: &Client,
        served: Option<&str>,
        identity: &str,
    ) -> anyhow::Result<(Option<Elector>, Gate)> {
        let periods = (self.lease_duration.0, self.lease_renew_deadline.0, self.lease_retry_period.0);
        let timing = Timing::new(periods.0, periods.1, periods.2)
            .context("--lease-duration, --lease-renew-deadline, --lease-retry-period")?;
        if !self.leader_elect {
            return Ok((None, Gate::without_election()));
        }
        let namespace = self.lease_namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let (elector, gate) =
            Elector::new(client.clone(), &namespace, &lease_name(served), identity.to_owned(), timing);
        Ok((Some(elector), gate))
    }
}

/// Name of the Lease of controllers that serve `namespace`: those with different scopes lead beside each other.
fn lease_name(namespace: Option<&str>) -> String {
    namespace
        .map_or_else(|| "sluice-controller".to_owned(), |namespace| format!("sluice-controller-{namespace}"))
}

/// A name in the Lease that no other process has, one that ran before in the same pod included.
pub(super) fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), fastrand::u64(..))
}
