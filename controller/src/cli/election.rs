//! Flags of the leader election.

use std::fmt;

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::{Api, Client};

use super::time::Time;
use crate::lease::{Elector, Gate, Timing};

/// Name of the Lease of controllers that serve all namespaces; others have theirs after it.
const NAME: &str = "sluice-controller";

/// Several controllers may run: one leads and writes, the others stand by.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Leader election")]
pub(super) struct Election {
    /// Whether to write only while holding the Lease; without it, no second controller may run
    #[arg(long, env = "SLUICE_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    leader_elect: bool,
    /// Namespace of the Lease; if absent, the controller's own
    #[arg(long, env = "SLUICE_LEASE_NAMESPACE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAMESPACE")]
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
    /// The Lease of controllers that serve `served` (`None`: all namespaces). Those with different scopes lead beside each other.
    pub(super) fn lease(&self, client: &Client, served: Option<&str>) -> LeaseName {
        let namespace = self.lease_namespace.as_deref().unwrap_or(client.default_namespace()).to_owned();
        let name = served.map_or_else(|| NAME.to_owned(), |served| format!("{NAME}-{served}"));
        LeaseName { namespace, name }
    }

    /// Stands for `lease` as `identity`. Without an election, the gate is always open.
    ///
    /// # Errors
    /// The periods do not fit together.
    pub(super) fn stand(
        self,
        client: &Client,
        lease: &LeaseName,
        identity: &str,
    ) -> anyhow::Result<(Option<Elector>, Gate)> {
        let periods = (self.lease_duration.0, self.lease_renew_deadline.0, self.lease_retry_period.0);
        let timing = Timing::new(periods.0, periods.1, periods.2)
            .context("--lease-duration, --lease-renew-deadline, --lease-retry-period")?;
        if !self.leader_elect {
            return Ok((None, Gate::without_election()));
        }
        let LeaseName { namespace, name } = lease;
        let (elector, gate) = Elector::new(client.clone(), namespace, name, identity.to_owned(), timing);
        Ok((Some(elector), gate))
    }
}

/// Where a Lease is.
#[derive(Debug)]
pub(super) struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    name: String,
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl LeaseName {
    /// Deletes it. That it is not there is no error.
    pub(super) async fn remove(&self, client: &Client) -> anyhow::Result<()> {
        let api: Api<Lease> = Api::namespaced(client.clone(), &self.namespace);
        match api.delete(&self.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop).with_context(|| format!("deleting the Lease {self}")),
        }
    }
}

/// A name in the Lease that no other process has, one that ran before in the same pod included.
pub(super) fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), fastrand::u64(..))
}
