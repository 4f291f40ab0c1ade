//! `sluice-controller release`: what is to be done before Sluice is removed.

use anyhow::{Context as _, anyhow};
use clap::builder::NonEmptyStringValueParser;
use kube::Client;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::cluster;
use super::election::{Election, identity};
use super::logging::Logging;
use super::time::Time;
use crate::admin::{Health, Metrics};
use crate::operator::release::{self, Progress};
use crate::operator::writer::Writer;

/// Let go of all Services, before Sluice is removed
///
/// Stops the controller, then takes away what each Service has of Sluice, in the safe order: the address from its status, the gateway,
/// the reservation of the address once no pod has it any more, and the finalizer, without which the Service can be deleted. The
/// Services themselves stay. To repeat it is safe, and so is to install Sluice again afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`helm uninstall` runs this by itself, and deploy/release.yaml is a Job that does.

Examples:
  sluice-controller release --stop sluice-controller
                                         in a pod of the namespace that the controller runs in
  sluice-controller release --lease-namespace sluice-system
                                         from a terminal, after the controller has been stopped by hand")]
pub(super) struct Release {
    /// Let go of the Services of this namespace only, as of `run --namespace`
    #[arg(long, env = "SLUICE_NAMESPACE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The controller's Deployment, in the namespace of the Lease: it is scaled to 0 first
    #[arg(long, value_parser = NonEmptyStringValueParser::new(), value_name = "DEPLOYMENT")]
    stop: Option<String>,
    /// Give up after this long, and say what was waited for
    #[arg(long, default_value = "5m", value_name = "TIME")]
    timeout: Time,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    election: Election,
}

impl Release {
    pub(super) fn run(self) -> anyhow::Result<()> {
        self.logging.start()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(self.release())
    }

    async fn release(self) -> anyhow::Result<()> {
        let (progress, limit) = (&Progress::default(), self.timeout.0);
        let deadline = Instant::now() + limit;
        let late = |_elapsed| {
            anyhow!("not done within {limit:?}; waiting: {}. Run it again to go on", progress.last())
        };
        let config = cluster::config().await?;
        info!(version = env!("CARGO_PKG_VERSION"), cluster = %config.cluster_url, namespace = self.namespace, "release starts");
        let client = Client::try_from(config).context("preparing the connection to the cluster")?;
        let lease = self.election.lease(&client, self.namespace.as_deref());
        if let Some(deployment) = &self.stop {
            let stop = release::stop(&client, &lease.namespace, deployment, progress);
            timeout_at(deadline, stop).await.map_err(late)?;
        }

        // As a controller does: one that still runs somewhere must not give back what is taken away here.
        let metrics = Metrics::default();
        let (elector, gate) = self.election.stand(&client, &lease, &identity())?;
        let writer = Writer::new(client.clone(), gate.clone(), metrics.clone());
        let (done, end) = oneshot::channel::<()>();
        let mut leading = tokio::spawn(async move {
            let end = async { drop(end.await) };
            match elector {
                Some(elector) => elector.run(&Health::default(), &metrics.leader, end).await,
                None => {
                    end.await;
                    Ok(())
                }
            }
        });
        progress.waits(&[format!("whoever holds the Lease {lease} has not given it up")]);
        let work = async {
            gate.opened().await;
            progress.goes_on();
            release::Release::new(writer, self.namespace, identity()).all(progress).await
        };
        let released = tokio::select! {
            released = timeout_at(deadline, work) => released.map_err(late),
            lost = &mut leading => return lost.context("the task of the lease")?.context("leading"),
        };
        // Given up also where not all was done, so that the next attempt need not wait for its end.
        drop(done);
        leading.await.context("the task of the lease")?.context("leading")?;
        info!(services = released?, "released");
        lease.remove(&client).await
    }
}
