//! The way out of all Services at once, before Sluice itself goes.

mod progress;
mod stop;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::reflector;
use tracing::info;

pub use progress::Progress;
pub use stop::stop;

use super::addresses::{Addresses, KubeOvnMode};
use super::cleanup::{self, Left};
use super::events::Events;
use super::finalizer;
use super::writer::{WriteError, Writer};
use crate::api::namespaced_name;

/// Services that are let go of at a time.
const CONCURRENCY: usize = 32;
/// Services in one answer of the API server.
const PAGE: u32 = 500;
/// Between two looks at what does not go at once.
const AGAIN: Duration = Duration::from_secs(1);

/// Lets go of Services.
pub struct Release {
    services: Api<Service>,
    writer: Writer,
    events: Events,
    addresses: Addresses,
}

impl Release {
    /// Of those in `namespace` (`None`: in all), by a `writer` whose lease is held. `instance` names this process in Events.
    pub fn new(writer: Writer, namespace: Option<String>, instance: String) -> Self {
        let client = writer.client().clone();
        let services = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        // No cache: everything is read once, and nothing is given.
        let (none, _) = reflector::store();
        let addresses = Addresses::new(writer.clone(), none, namespace, KubeOvnMode::default());
        let events = Events::new(writer.clone(), instance);
        Self { services, writer, events, addresses }
    }

    /// Takes away what every Service has of us, in the order that is safe for each, and frees what Services have left that are gone. Returns
    /// how many Services there were. What fails is tried again, for as long as it takes.
    pub async fn all(&self, progress: &Progress) -> usize {
        let mut released = 0;
        loop {
            let found = progress.attempt(AGAIN, async || Ok(self.held().await?)).await;
            if found.is_empty() {
                break;
            }
            info!(services = found.len(), "letting go of Services");
            released += found.len();
            self.let_go(found, progress).await;
        }
        loop {
            let orphans = progress.attempt(AGAIN, async || Ok(self.addresses.collect_orphans().await?)).await;
            if orphans.carried == 0 {
                return released;
            }
            progress
                .waits(&[format!("pods of Services that are gone still have {} addresses", orphans.carried)]);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Lets go of `services`, all of them.
    async fn let_go(&self, mut services: Vec<Service>, progress: &Progress) {
        loop {
            let results =
                stream::iter(services).map(|service| self.leave(service)).buffer_unordered(CONCURRENCY);
            let left: Vec<(Service, String)> = results.filter_map(async |left| left).collect().await;
            if left.is_empty() {
                return;
            }
            let (stay, reasons): (Vec<_>, Vec<_>) = left.into_iter().unzip();
            progress.waits(&reasons);
            services = stay;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The Service and why it has still something of us; `None` if it has not.
    async fn leave(&self, service: Service) -> Option<(Service, String)> {
        let why = match cleanup::leave(&service, &self.writer, &self.events, &self.addresses).await {
            Ok(Left::Nothing) => return None,
            Ok(Left::Pod(pod)) => pod,
            Ok(Left::Objects) => "its gateway is being deleted".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let why = format!("Service {}: {why}", namespaced_name(&service.metadata));
        Some((service, why))
    }

    /// The Services with our finalizer.
    async fn held(&self) -> Result<Vec<Service>, WriteError> {
        let mut held = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let read = self.services.list(&page).await?;
            held.extend(read.items.into_iter().filter(finalizer::has));
            match read.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(held),
            }
        }
    }
}
