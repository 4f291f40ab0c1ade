//! `sluice-controller run`: the operator.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use super::allocator;
use super::cluster;
use super::election::{Election, identity};
use super::gateway_pods::GatewayPods;
use super::logging::Logging;
use super::time::Time;
use crate::admin::{self, Health, Metrics};
use crate::operator::addresses::KubeOvnMode;
use crate::operator::writer::Writer;
use crate::operator::{Lookout, Operator, Options};

/// Serve the LoadBalancer Services of a cluster, until SIGTERM or Ctrl-C
///
/// Each Service of type LoadBalancer with the annotation `ovn.kubernetes.io/attachmentprovider` gets an address, a gateway pod
/// `lb-svc-<service>` that has it, and its status. Gateways keep serving while no controller runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The cluster is that of $KUBECONFIG, of ~/.kube/config, or the one that this pod runs in. It needs Sluice's custom resources and
role: `sluice-controller crds | kubectl apply -f -` and `sluice-controller rbac | kubectl apply -f -`.

Probes: /livez and /readyz, whose body says what is wrong; numbers: /metrics.

Examples:
  sluice-controller run                              in a pod, with everything as it is by default
  sluice-controller run --namespace edge             for the Services of one namespace only
  sluice-controller run --log-level info,sluice_controller=debug --leader-elect=false
                                                     from a terminal, where no other controller runs")]
pub(super) struct Run {
    /// Serve the Services of this namespace only. Controllers for different namespaces may share a cluster
    #[arg(long, env = "SLUICE_NAMESPACE", value_parser = NonEmptyStringValueParser::new(), value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How long no gateway of a Service may be ready before its addresses are taken out of its status
    #[arg(long, env = "SLUICE_GRACE_PERIOD", default_value = "30s", value_name = "TIME")]
    grace_period: Time,
    /// Which way Kube-OVN is asked for addresses of the Subnets that it manages
    #[arg(long, env = "SLUICE_KUBE_OVN_ADDRESSES", value_enum, default_value_t)]
    kube_ovn_addresses: KubeOvnMode,
    /// Services that are worked on at once
    #[arg(long, env = "SLUICE_CONCURRENCY", default_value_t = DEFAULT_CONCURRENCY, value_name = "NUMBER")]
    concurrency: NonZeroU16,
    /// Gateways that serve and are replaced at once, such as after a change of the image: each is away for seconds
    #[arg(long, env = "SLUICE_MAX_RESTARTS", default_value_t = DEFAULT_RESTARTS, value_name = "NUMBER")]
    max_restarts: NonZeroU16,
    /// Look at each Service at least this often
    #[arg(long, env = "SLUICE_RESYNC", default_value = "10m", value_name = "TIME")]
    resync: Time,
    /// Where probes and metrics are answered; without IPv6, `[::]` means 0.0.0.0
    #[arg(long, env = "SLUICE_ADMIN_ADDRESS", default_value = "[::]:9090", value_name = "ADDRESS")]
    admin_address: SocketAddr,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    election: Election,
    #[command(flatten)]
    gateway_pods: GatewayPods,
}

/// How often the operator shows that it is alive.
const BEAT: Duration = Duration::from_secs(10);
const DEFAULT_RESTARTS: NonZeroU16 = NonZeroU16::MIN.saturating_add(9);
const DEFAULT_CONCURRENCY: NonZeroU16 = NonZeroU16::MIN.saturating_add(31);

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        allocator::use_one_arena();
        self.logging.start()?;
        // Two workers: one for the passes, one for the probes meanwhile.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        // Before anything is touched: a signal that comes early must not leave things half done.
        let end = end_of_process()?;
        let options = Options {
            namespace: self.namespace,
            grace_period: self.grace_period.0,
            kube_ovn_addresses: self.kube_ovn_addresses,
            concurrency: self.concurrency.get(),
            max_restarts: self.max_restarts.get(),
            resync: self.resync.0,
            defaults: self.gateway_pods.defaults()?,
        };
        let config = cluster::config().await?;
        info!(version = env!("CARGO_PKG_VERSION"), cluster = %config.cluster_url, namespace = options.namespace,
            "sluice-controller starts");
        let client = Client::try_from(config).context("preparing the connection to the cluster")?;

        let (health, metrics) = (Health::default(), Metrics::default());
        let listener = admin::listen(self.admin_address)
            .await
            .with_context(|| format!("--admin-address {}: listening", self.admin_address))?;
        info!(address = %listener.local_addr().context("asking for the admin server's address")?, "admin server: listening");
        let admin = admin::serve(listener, health.clone(), metrics.clone());

        let identity = identity();
        let lease = self.election.lease(&client, options.namespace.as_deref());
        let (elector, gate) = self.election.stand(&client, &lease, &identity)?;
        let writer = Writer::new(client.clone(), gate, metrics.clone());
        let operator = Operator::start(&client, options, &health);
        health.started();

        let (released, release) = oneshot::channel::<()>();
        let (of_lease, leader) = (health.clone(), metrics.leader.clone());
        // A task of its own: no work of this process keeps the lease from being renewed.
        let mut lease = tokio::spawn(async move {
            let release = async { drop(release.await) };
            match elector {
                Some(elector) => elector.run(&of_lease, &leader, release).await,
                None => {
                    leader.set(1);
                    release.await;
                    Ok(())
                }
            }
        });
        let work = async {
            tokio::select! {
                lost = &mut lease => lost.context("the task of the lease")?.context("leading"),
                result = lead(operator, writer, identity, &health, end) => {
                    // Given up after the last write.
                    drop(released);
                    lease.await.context("the task of the lease")?.context("leading")?;
                    result.context("serving Services")
                }
                () = beat(&health) => Ok(()),
            }
        };
        tokio::select! {
            result = work => result,
            result = admin => result.context("answering probes"),
        }
    }
}

/// Waits for the lease, then serves Services until `end`, and looks for Kube-OVN's own load balancer all the while.
async fn lead(
    operator: Operator,
    writer: Writer,
    identity: String,
    health: &Health,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut end = pin!(end);
    let (lookout, kube_ovn_lb_svc) = tokio::select! {
        started = Lookout::start(writer.client(), health.clone(), writer.metrics().clone()) => started,
        () = &mut end => return Ok(()),
    };
    let gate = writer.gate().clone();
    let lead = async {
        tokio::select! {
            () = gate.opened() => operator.lead(writer, identity, kube_ovn_lb_svc, end).await,
            () = &mut end => Ok(()),
        }
    };
    tokio::select! {
        result = lead => result,
        never = lookout.run() => match never {},
    }
}

/// Shows `health` that the task which polls this, and all that it polls besides, is alive.
async fn beat(health: &Health) {
    loop {
        health.beat("operator");
        tokio::time::sleep(BEAT).await;
    }
}

/// Comes with the signal that ends this process.
fn end_of_process() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "shutting down");
    })
}
