//! Ties caches, queue and passes together.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::runtime::controller::{Action, Config, Error, applier};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::addresses::{Addresses, Orphans};
use super::caches::{self, Caches, Observer, Queue};
use super::context::Context;
use super::events::Events;
use super::reconcile::reconcile;
use super::waiting::Waiting;
use super::writer::{WriteError, Writer};
use super::{Failure, Options, gateways, subnet_status};

/// After the first failure of a Service, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// No Service waits longer than this for its next attempt.
const LAST_RETRY: Duration = Duration::from_secs(120);
/// What nobody holds any more is looked for this often.
const ORPHANS: Duration = Duration::from_secs(600);

/// The operator: its watches run, and a leader makes passes.
pub struct Operator {
    options: Options,
    caches: Caches,
    queue: Queue,
    services: mpsc::UnboundedReceiver<ObjectRef<Service>>,
    tasks: JoinSet<()>,
}

impl Operator {
    /// Starts the watches. They are kept by a controller that does not lead, too, so that it can take over at once.
    pub fn start(client: &Client, options: Options, observer: &impl Observer) -> Self {
        let (queue, services) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let caches = caches::start(client, options.namespace.as_deref(), &queue, observer, &mut tasks);
        Self { options, caches, queue, services, tasks }
    }

    /// What is known of the cluster.
    pub const fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Makes passes, by a `writer` whose lease is held, until `end`; those that run then come to their own end. `instance` names
    /// this process in Events.
    ///
    /// # Errors
    /// A watch has ended.
    pub async fn lead(
        mut self,
        writer: Writer,
        instance: String,
        lb_svc: watch::Receiver<Option<String>>,
        end: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let ended = Cell::new(false);
        let mut end = pin!(end.map(|()| ended.set(true)));
        tokio::select! {
            synced = self.caches.synced() => synced?,
            () = &mut end => return Ok(()),
        }
        info!(services = caches::all(&self.caches.services).len(), "caches are filled");
        let addresses = Addresses::new(
            writer.clone(),
            self.caches.reservations.clone(),
            self.options.namespace.clone(),
            self.options.kube_ovn_addresses,
        );
        self.tasks.spawn(subnet_status::keep_true(writer.clone(), self.caches.clone()));
        let events = Events::new(writer.clone(), instance);
        let metrics = writer.metrics().clone();
        let waiting = Waiting::new(metrics.clone());
        let concurrency = self.options.concurrency;
        let services = self.caches.services.clone();
        let context =
            Arc::new(Context::new(self.options, self.caches, writer, events, addresses, lb_svc.clone()));
        self.tasks.spawn(on_change(lb_svc, context.clone(), self.queue.clone()));
        self.tasks.spawn(orphans(context.clone()));
        self.tasks.spawn(gateways::listen(context.clone()));
        // What came while another led is in the queue, too.
        for service in caches::all(&services) {
            let _ = self.queue.send(service);
        }
        let queue = stream::unfold(self.services, |mut services| async {
            let service = services.recv().await?;
            waiting.add(&service);
            Some((Ok::<_, Infallible>(service), services))
        });
        let passes = applier(
            |service: Arc<Service>, context: Arc<Context>| {
                waiting.remove(&ObjectRef::from_obj(&*service));
                Box::pin(spawned(service, context))
            },
            |service, failure, context| again(&service, failure, &context),
            context,
            services,
            Box::pin(queue.take_until(end)),
            Config::default().concurrency(concurrency),
        );
        passes
            .for_each(|result| async {
                match result {
                    Ok(_) => {}
                    // It is gone, and its name was still in the queue.
                    Err(Error::ObjectNotFound(service)) => {
                        waiting.remove(&service);
                        let namespace = service.namespace.as_deref().unwrap_or_default();
                        metrics.service(&format!("{namespace}/{}", service.name), None);
                    }
                    Err(Error::ReconcilerFailed(failure, service)) => {
                        debug!(%service, %failure, "a pass failed")
                    }
                    Err(error) => error!(%error, "the queue failed"),
                }
            })
            .await;
        anyhow::ensure!(ended.get(), "the queue of Services has ended");
        Ok(())
    }
}

/// On a task of its own, so that passes use all CPUs.
async fn spawned(service: Arc<Service>, context: Arc<Context>) -> Result<Action, Failure> {
    let (of, started) = (service.clone(), Instant::now());
    let pass = tokio::spawn(reconcile(service, context.clone()));
    let result = match pass.await {
        Ok(result) => result,
        Err(panic) => Err(Failure::Panic(panic.to_string())),
    };
    let metrics = context.writer.metrics();
    metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    match result {
        Ok(_) => context.succeeded(&of),
        Err(_) => drop(metrics.reconcile_errors.inc()),
    }
    result
}

/// When a Service whose pass failed is looked at again. Others are not delayed by it.
fn again(service: &Service, failure: &Failure, context: &Context) -> Action {
    match failure {
        // The process is about to end.
        Failure::Write(WriteError::NotLeading) => Action::await_change(),
        // Somebody wrote in between; the cache shows it in a moment.
        Failure::Write(WriteError::Conflict(_)) if context.failed(service) < 10 => {
            Action::requeue(FIRST_RETRY)
        }
        failure => {
            let failures = context.failed(service);
            let delay = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LAST_RETRY);
            let object = crate::api::describe_service(service);
            warn!(object, %failure, failures, retry_in = delay.as_secs_f64(), "a pass failed");
            Action::requeue(delay)
        }
    }
}

/// Looks at every Service when Kube-OVN begins or ceases to serve them itself.
async fn on_change(mut lb_svc: watch::Receiver<Option<String>>, context: Arc<Context>, queue: Queue) {
    while lb_svc.changed().await.is_ok() {
        for service in caches::all(&context.caches.services) {
            let _ = queue.send(service);
        }
    }
}

/// Frees what Services have left that went without us seeing it, at the start and from time to time.
async fn orphans(context: Arc<Context>) {
    loop {
        match context.addresses.collect_orphans().await {
            Ok(Orphans { freed: 0, .. }) => {}
            Ok(Orphans { freed, .. }) => info!(freed, "freed addresses whose Services are gone"),
            Err(WriteError::NotLeading) => return,
            Err(error) => warn!(%error, "could not look for addresses whose Services are gone"),
        }
        tokio::time::sleep(ORPHANS).await;
    }
}
