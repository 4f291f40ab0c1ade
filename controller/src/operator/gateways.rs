//! Asks the gateways what is wrong with them, and tells it to their Services.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use sluice_gateway::config::Gateway;
use sluice_gateway::http;
use sluice_gateway::problem::Problem;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::context::Context;
use super::related;
use crate::api::annotation;
use crate::decide::{GatewayPod, gateway_report};
use crate::events::EventReason;

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(30);
/// How long one gateway may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Gateways that are asked at once.
const AT_ONCE: usize = 16;
/// No report is longer.
const LONGEST: usize = 64 << 10;

/// What each gateway said last, by its pod's UID.
type Reports = HashMap<String, Vec<Problem>>;

/// Asks all gateways in rounds. That one cannot be reached is no fault: the controller need not be in their network.
pub async fn listen(context: Arc<Context>) {
    let mut reports = Reports::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        reports = round(&context, reports).await;
    }
}

/// One round; the reports of it.
async fn round(context: &Context, mut before: Reports) -> Reports {
    let services: HashMap<String, Arc<Service>> = related::relevant(&context.caches.services)
        .filter_map(|service| Some((service.uid()?, service)))
        .collect();
    let gateways = context.caches.pods.state().into_iter().filter_map(|pod| {
        let service = services.get(pod.annotations().get(annotation::SERVICE_UID)?)?;
        Some((pod.uid()?, address(&pod)?, pod, service.clone()))
    });
    let mut answers = stream::iter(gateways)
        .map(|(uid, address, pod, service)| async move { (uid, ask(address).await, pod, service) })
        .buffer_unordered(AT_ONCE);
    let mut reports = Reports::new();
    while let Some((uid, answer, pod, service)) = answers.next().await {
        let last = before.remove(&uid);
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                debug!(pod = pod.name_any(), error = format!("{error:#}"), "a gateway does not report");
                // What it said before still counts when it answers again.
                reports.extend(last.map(|last| (uid, last)));
                continue;
            }
        };
        let problems = gateway_report(last.as_deref(), &report);
        if !problems.is_empty() {
            let note = format!("gateway pod {}: {}", pod.name_any(), problems.join("; "));
            context.events.tell(&service, EventReason::GatewayProblem, &note).await;
        } else if report.is_empty() {
            context.events.over(&service, &[EventReason::GatewayProblem]);
        }
        reports.insert(uid, report);
    }
    reports
}

/// Where a gateway that serves is asked.
fn address(pod: &Pod) -> Option<IpAddr> {
    let gateway = GatewayPod::of_any_network(pod);
    if !gateway.ready || gateway.terminating {
        return None;
    }
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

async fn ask(address: IpAddr) -> anyhow::Result<Vec<Problem>> {
    let answer = async {
        let stream = TcpStream::connect((address, Gateway::default().admin_port)).await?;
        http::get(stream, "/problems", LONGEST).await
    };
    let answer = timeout(PATIENCE, answer).await.context("no answer in time")??;
    ensure!(answer.success, "an older gateway, which has no report");
    serde_json::from_slice(&answer.body).context("reading the report")
}
