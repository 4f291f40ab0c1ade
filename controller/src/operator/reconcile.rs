//! One pass over one Service.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use sluice_gateway::config::file::File;

use super::addresses::{Outcome, Request};
use super::caches::pods_of;
use super::children::{self, Child};
use super::context::Context;
use super::related::is_published;
use super::resolve::{Resolved, resolve};
use super::writer::WriteError;
use super::{Failure, Options, cleanup, finalizer, status};
use crate::Refusal;
use crate::admin::ServiceState;
use crate::api::{Provider, namespaced_name};
use crate::decide::{GatewayPod, Observed, Publication, carried, pod_trouble, publication, served_before};
use crate::desired::{self, AddressesBy, Inputs};
use crate::events::EventReason;
use crate::gateway_file::gateway_file;
use crate::ipam::Choice;
use crate::select::{Selection, select};

/// What is refused is looked at again this often: what is wrong may lie in an object that is not watched.
const REFUSED: Duration = Duration::from_secs(300);
/// Somebody else's object is in the way. It is not watched.
const FOREIGN: Duration = Duration::from_secs(10);
/// While Kube-OVN serves Services itself.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// While as many other pods are being replaced as may be at a time.
const TURN: Duration = Duration::from_secs(2);
/// What keeps a pod from serving for this long is worth telling.
const TROUBLE: Duration = Duration::from_secs(10);

/// Looks at `service` and does what is missing.
pub async fn reconcile(service: Arc<Service>, context: Arc<Context>) -> Result<Action, Failure> {
    let dying = service.metadata.deletion_timestamp.is_some();
    let selection = select(&service);
    let leaves = dying || matches!(selection, Ok(Selection::NotOurs(_)));
    if leaves && !finalizer::has(&service) {
        context.forget(&service);
        return Ok(Action::await_change());
    }
    if let Err(wait) = context.pace(&service) {
        return Ok(Action::requeue(wait));
    }
    if leaves {
        return cleanup::pass(&service, &context).await;
    }
    let left_alone = context.lb_svc.borrow().clone();
    if let Some(reason) = left_alone {
        context.events.tell(&service, EventReason::KubeOvnLbSvcEnabled, &reason).await;
        return Ok(Action::requeue(LEFT_ALONE));
    }
    let pass = Pass { service: &service, context: &context };
    let result = match selection {
        Ok(Selection::Ours(provider)) => pass.run(&provider).await,
        Ok(Selection::NotOurs(_)) => Ok(Action::await_change()),
        Err(refusal) => Err(Halt::Refused(refusal)),
    };
    if let Some(state) = state(&service, &result) {
        context.writer.metrics().service(&namespaced_name(&service.metadata), Some(state));
    }
    match result {
        Ok(action) => Ok(action),
        // What is served stays as it is.
        Err(Halt::Refused(refusal)) => {
            pass.tell(EventReason::Refused, &refusal.to_string()).await;
            Ok(Action::requeue(REFUSED.min(pass.watch_over().await?)))
        }
        Err(Halt::Foreign(kind)) => {
            let name = desired::name(&service);
            let note = format!(
                "{kind} {name} does not belong to this Service, so it is not touched: delete it, or rename the Service"
            );
            pass.tell(EventReason::ForeignObject, &note).await;
            Ok(Action::requeue(FOREIGN.min(pass.watch_over().await?)))
        }
        Err(Halt::Failed(Failure::Write(WriteError::Invalid(message)))) => {
            pass.tell(EventReason::ApplyFailed, &message).await;
            pass.watch_over().await?;
            Err(WriteError::Invalid(message).into())
        }
        Err(Halt::Failed(failure)) => Err(failure),
    }
}

/// How far `service`, as the pass saw it, has come; `None`: the pass does not say.
fn state(service: &Service, result: &Result<Action, Halt>) -> Option<ServiceState> {
    match result {
        Ok(_) if is_published(service) => Some(ServiceState::Served),
        Ok(_) => Some(ServiceState::Waiting),
        Err(Halt::Refused(_) | Halt::Foreign(_) | Halt::Failed(Failure::Write(WriteError::Invalid(_)))) => {
            Some(ServiceState::Refused)
        }
        Err(Halt::Failed(_)) => None,
    }
}

/// A pass over a Service that is ours.
struct Pass<'a> {
    service: &'a Service,
    context: &'a Context,
}

/// Why a pass ends early.
enum Halt {
    /// The Service cannot be served as it is written.
    Refused(Refusal),
    /// An object of this kind has the name that ours would have.
    Foreign(&'static str),
    /// Something did not work, and is tried again.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Halt {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Pass<'_> {
    async fn run(&self, provider: &Provider) -> Result<Action, Halt> {
        let caches = &self.context.caches;
        // Before the first write: a Service that cannot be served is left as it is.
        let resolved = resolve(self.service, provider, caches, &self.context.options.defaults)?;
        for warning in &resolved.warnings {
            self.tell(warning.reason, &warning.message).await;
        }
        let past = |reason: &EventReason| resolved.warnings.iter().all(|warning| warning.reason != *reason);
        self.over(&EventReason::ADVICE.into_iter().filter(past).collect::<Vec<_>>());
        finalizer::add(&self.context.writer, self.service).await?;

        let name = desired::name(self.service);
        let deployment =
            children::live(&self.context.writer, &caches.deployments, self.service, &name).await?;
        let pods = pods_of(&caches.pods, self.service);
        let request = Request {
            service: self.service,
            provider,
            network: &resolved.network,
            subnet: &resolved.subnet,
            pools: &resolved.pools,
            families: &resolved.families,
            pods: &pods,
            deployment: deployment.as_ref(),
        };
        match self.context.addresses.ensure(&request).await? {
            Outcome::Given { vips, by, fresh } => {
                if fresh {
                    let note = format!("{} of Subnet {}", list(&ips(&vips)), resolved.subnet.name());
                    self.tell(EventReason::AddressGiven, &note).await;
                }
                self.over(&[EventReason::Waiting]);
                let file =
                    gateway_file(self.service, &vips, &resolved.cluster_ips, resolved.settings.max_flows)?;
                let inputs = self.inputs(provider, &resolved, &vips, &file);
                self.serve(&inputs, by, deployment.as_ref(), &pods).await
            }
            Outcome::NeedsPod { requested, again } => {
                // Kube-OVN gives the address to the pod, which serves nothing until then.
                let vips = resolved.pools.choices(&requested);
                let file = File { version: File::VERSION, gateway: None, services: Vec::new() };
                let inputs = self.inputs(provider, &resolved, &vips, &file);
                self.config_map(&inputs).await?;
                self.deployment(&inputs).await?;
                // What was published before stays true. An address that is only asked for, or only given, is not published yet.
                let again = match status::shown(self.service) {
                    [] => again,
                    _ => again.min(self.watch_over().await?),
                };
                Ok(Action::requeue(again))
            }
            Outcome::Waiting { reason, again } => {
                self.tell(EventReason::Waiting, &reason).await;
                Ok(Action::requeue(again.min(self.watch_over().await?)))
            }
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    fn inputs<'b>(
        &'b self,
        provider: &'b Provider,
        resolved: &'b Resolved,
        vips: &'b [Choice],
        file: &'b File,
    ) -> Inputs<'b> {
        let Resolved { network, subnet, settings, .. } = resolved;
        // An address that is another one needs another pod: only when the old one is gone is the old address surely unused.
        let template_addresses = !vips.is_empty();
        Inputs { service: self.service, provider, network, subnet, vips, file, settings, template_addresses }
    }

    async fn serve(
        &self,
        inputs: &Inputs<'_>,
        by: AddressesBy,
        live: Option<&Deployment>,
        pods: &[Arc<Pod>],
    ) -> Result<Action, Halt> {
        let addresses = ips(inputs.vips);
        let judged: Vec<GatewayPod> = pods.iter().map(|pod| GatewayPod::of(pod, inputs.provider)).collect();
        let waits = !self.may_replace(inputs, live, &judged)?;
        if waits && !judged.iter().any(|pod| pod.serves(&addresses)) {
            // The pod that serves has another address: it must not read a file with these.
            return Ok(Action::requeue(TURN));
        }
        // Before the Deployment, so that the file is there before the pod that reads it.
        self.config_map(inputs).await?;
        let in_order = !waits && self.deployment(inputs).await?;
        self.over(&[EventReason::Refused, EventReason::ForeignObject, EventReason::ApplyFailed]);
        let settled = in_order && live.is_some_and(desired::has_only_new_pods);
        self.annotate(inputs, by, pods, settled).await?;
        let (again, unserved) = self.publish(&addresses, &judged).await?;
        let carried: Vec<IpAddr> = pods.iter().flat_map(|pod| carried(pod)).collect();
        self.context.addresses.release_others(self.service, &addresses, &carried).await?;
        let again = match unserved {
            _ if waits => again.min(TURN),
            None => again,
            Some(unserved) if unserved < TROUBLE => again.min(TROUBLE - unserved),
            Some(unserved) => {
                let overdue = unserved >= self.context.options.grace_period;
                self.tell_trouble(live, pods, overdue).await;
                again
            }
        };
        Ok(Action::requeue(again))
    }

    async fn config_map(&self, inputs: &Inputs<'_>) -> Result<(), Halt> {
        let (writer, store) = (&self.context.writer, &self.context.caches.config_maps);
        match children::ensure(writer, store, self.service, &desired::config_map(inputs)?).await? {
            Child::Foreign => Err(Halt::Foreign("ConfigMap")),
            Child::InOrder | Child::Written(_) | Child::Dying => Ok(()),
        }
    }

    /// True if it was as it should be.
    async fn deployment(&self, inputs: &Inputs<'_>) -> Result<bool, Halt> {
        let (writer, store) = (&self.context.writer, &self.context.caches.deployments);
        let deployment = desired::deployment(inputs)?;
        match children::ensure(writer, store, self.service, &deployment).await? {
            Child::Foreign => Err(Halt::Foreign("Deployment")),
            Child::Written(before) => {
                let replicas = before.and_then(|before| before.spec?.replicas).unwrap_or(1);
                if replicas != 1 {
                    let name = deployment.name_any();
                    let why = match replicas {
                        0 => "nothing would serve the address",
                        _ => "two gateways would both claim the address",
                    };
                    let note = format!("Deployment {name} was scaled to {replicas}; it is 1 again: {why}");
                    self.tell(EventReason::ReplicasReset, &note).await;
                    self.over(&[EventReason::ReplicasReset]);
                }
                Ok(false)
            }
            Child::InOrder => Ok(true),
            Child::Dying => Ok(false),
        }
    }

    /// Whether the Deployment may be brought in line now, although that replaces a pod that serves.
    fn may_replace(
        &self,
        inputs: &Inputs<'_>,
        live: Option<&Deployment>,
        pods: &[GatewayPod],
    ) -> Result<bool, Halt> {
        let uid = self.service.uid().unwrap_or_default();
        let rollouts = &self.context.rollouts;
        let Some(live) = live.filter(|live| desired::is_ours(&live.metadata, self.service)) else {
            return Ok(true);
        };
        if !desired::replaces_pod(&desired::deployment(inputs)?, live) {
            if desired::is_rolled_out(live) {
                rollouts.ended(&uid);
            }
            return Ok(true);
        }
        let serves = pods.iter().any(|pod| pod.ready && !pod.terminating);
        Ok(!serves || rollouts.may_start(&uid, Instant::now()))
    }

    /// What only the live pods carry: it changes without a restart, and the change makes the kubelet refresh the gateway's file. A pod
    /// that has other addresses is about to go, and reads no more files; unless all are `settled`, of the present template: then
    /// somebody has edited it.
    async fn annotate(
        &self,
        inputs: &Inputs<'_>,
        by: AddressesBy,
        pods: &[Arc<Pod>],
        settled: bool,
    ) -> Result<(), Halt> {
        let inputs = Inputs { template_addresses: inputs.template_addresses && !settled, ..*inputs };
        let wanted = desired::pod_annotations(&inputs, by)?;
        let addresses = ips(inputs.vips);
        let lacks = |pod: &Pod| wanted.iter().any(|(key, value)| pod.annotations().get(key) != Some(value));
        let goes = |pod: &Pod| {
            let has = carried(pod);
            !settled && !has.is_empty() && addresses.iter().any(|address| !has.contains(address))
        };
        let api: Api<Pod> = children::api(&self.context.writer, self.service);
        let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        for pod in living.filter(|pod| lacks(pod) && !goes(pod)) {
            let name = pod.name_any();
            // The cache may not show our last write yet.
            if !api.get_opt(&name).await?.is_some_and(|live| live.uid() == pod.uid() && lacks(&live)) {
                continue;
            }
            let patch = json!({ "metadata": { "uid": pod.uid(), "annotations": wanted } });
            match self.context.writer.merge(&api, &name, &patch).await {
                // Another takes its place, and tells.
                Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// For a Service that cannot be brought in line: what serves it goes on to, and its status stays true. Says when to look again.
    async fn watch_over(&self) -> Result<Duration, Failure> {
        let resync = self.context.options.resync;
        // What it shows is not ours otherwise.
        if !finalizer::has(self.service) {
            return Ok(resync);
        }
        let pods = pods_of(&self.context.caches.pods, self.service);
        let pods: Vec<GatewayPod> = pods.iter().map(|pod| GatewayPod::of_any_network(pod)).collect();
        let addresses = served_before(status::shown(self.service), &pods);
        if addresses.is_empty() { Ok(resync) } else { Ok(self.publish(&addresses, &pods).await?.0) }
    }

    /// Shows the addresses while they are served. Says when to look again, and for how long they have not been served.
    async fn publish(
        &self,
        addresses: &[IpAddr],
        pods: &[GatewayPod],
    ) -> Result<(Duration, Option<Duration>), Failure> {
        let may_be_served = pods.iter().any(|pod| pod.may_serve(addresses));
        let unserved_since = self.context.unserved_since(self.service, may_be_served);
        let Options { grace_period: grace, resync, .. } = self.context.options;
        let shown = status::shown(self.service);
        let now = Instant::now();
        let unserved = unserved_since.map(|since| now.saturating_duration_since(since));
        let writer = &self.context.writer;
        match publication(&Observed { addresses, pods, shown, unserved_since, grace }, now) {
            Publication::Publish(ingress) => {
                if status::show(writer, self.service, &ingress).await? {
                    self.tell(EventReason::Served, &format!("at {}", list(addresses))).await;
                }
                self.over(&[EventReason::Withdrawn, EventReason::GatewayNotReady]);
                Ok((resync, unserved))
            }
            Publication::Keep { look_again_in } => Ok((look_again_in.min(resync), unserved)),
            Publication::Withdraw => {
                if status::show(writer, self.service, &[]).await? {
                    let note = format!("no gateway pod serves {}", list(addresses));
                    self.tell(EventReason::Withdrawn, &note).await;
                    self.over(&[EventReason::Served]);
                }
                Ok((resync, unserved))
            }
        }
    }

    async fn tell_trouble(&self, live: Option<&Deployment>, pods: &[Arc<Pod>], overdue: bool) {
        let Some(deployment) = live else { return };
        let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        let trouble = pod_trouble(deployment, &pods, overdue);
        if !trouble.is_empty() {
            self.tell(EventReason::GatewayNotReady, &trouble.join("; ")).await;
        }
    }

    fn over(&self, reasons: &[EventReason]) {
        self.context.events.over(self.service, reasons);
    }

    async fn tell(&self, reason: EventReason, note: &str) {
        self.context.events.tell(self.service, reason, note).await;
    }
}

fn ips(vips: &[Choice]) -> Vec<IpAddr> {
    vips.iter().map(|vip| vip.address.addr()).collect()
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}
