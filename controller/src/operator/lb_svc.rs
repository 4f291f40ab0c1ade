//! Looks whether Kube-OVN's own load balancer is on: two controllers must not serve the same Services.
//!
//! What counts is what runs: the pods of Kube-OVN's controller, the old ones of a rollout included. Its Deployment counts too, since
//! its pods may be about to start.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::{Health, Metrics};
use crate::api::namespaced_name;
use crate::decide::lb_svc_enabled;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two looks as long as none has succeeded.
const RETRY: Duration = Duration::from_secs(2);
/// Name of Kube-OVN's controller, and what its pods have in the label `app`.
const KUBE_OVN: &str = "kube-ovn-controller";
/// What readiness calls it.
const PART: &str = "two load balancers";

/// Looks again and again.
pub struct Lookout {
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    health: Health,
    metrics: Metrics,
    found: watch::Sender<Option<String>>,
}

impl Lookout {
    /// Looks until it has seen something. The receiver has a sentence for users while Kube-OVN's load balancer is on; readiness and
    /// metrics say the same.
    pub async fn start(
        client: &Client,
        health: Health,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<Option<String>>) {
        health.problem(PART, Some("it is not known yet whether that of Kube-OVN is on".to_owned()));
        let (found, receiver) = watch::channel(None);
        let (pods, deployments) = (Api::all(client.clone()), Api::all(client.clone()));
        let lookout = Self { pods, deployments, health, metrics, found };
        while !lookout.look().await {
            tokio::time::sleep(RETRY).await;
        }
        (lookout, receiver)
    }

    /// Keeps looking.
    pub async fn run(self) -> Infallible {
        loop {
            tokio::time::sleep(PERIOD).await;
            // What was found before stays if this fails.
            self.look().await;
        }
    }

    /// Looks once, and says whether it has seen anything.
    async fn look(&self) -> bool {
        let found = match self.find().await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "could not look for Kube-OVN's own load balancer");
                return false;
            }
        };
        self.metrics.kube_ovn_lb_svc_enabled.set(found.is_some().into());
        self.health.problem(PART, found.clone());
        let last = self.found.borrow().clone();
        if last != found {
            match &found {
                Some(found) => warn!("{found}"),
                None => info!("Kube-OVN's own load balancer is off"),
            }
            self.found.send_replace(found);
        }
        true
    }

    async fn find(&self) -> kube::Result<Option<String>> {
        let labelled = ListParams::default().labels(&format!("app={KUBE_OVN}")).match_any();
        let named = ListParams::default().fields(&format!("metadata.name={KUBE_OVN}")).match_any();
        let (pods, deployments) = tokio::try_join!(self.pods.list(&labelled), self.deployments.list(&named))?;
        let pods = pods.items.iter().filter(|pod| lives(pod) && runs(pod.spec.as_ref()));
        let pods = pods.map(|pod| format!("Pod {}", namespaced_name(&pod.metadata)));
        let deployments = deployments.items.iter().filter(|deployment| is_on(deployment));
        let deployments =
            deployments.map(|deployment| format!("Deployment {}", namespaced_name(&deployment.metadata)));
        // The Deployment is what users can change; a pod of it alone is going.
        Ok(deployments.chain(pods).next().map(|object| {
            format!(
                "Kube-OVN's own load balancer is on: {object} has --enable-lb-svc=true. Sluice changes nothing while it is: \
                 set it to false there, or remove Sluice"
            )
        }))
    }
}

fn runs(spec: Option<&PodSpec>) -> bool {
    spec.is_some_and(lb_svc_enabled)
}

/// Whether a process of the pod may still run.
fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_on(deployment: &Deployment) -> bool {
    let Some(spec) = &deployment.spec else { return false };
    spec.replicas != Some(0) && runs(spec.template.spec.as_ref())
}
