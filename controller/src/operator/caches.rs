//! What the controller knows of the cluster: one watch of each kind, and which Services a change concerns.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::changed::Changed;
use super::essence::Essences;
use super::packed::Packed;
use super::related;
use super::watch::watch;
use super::watch_problem::watch_problem;
use crate::api::{IPReservation, NetworkAttachmentDefinition, Subnet};
use crate::desired::MANAGED_BY;

/// Services to look at, as they come.
pub type Queue = UnboundedSender<ObjectRef<Service>>;

/// Everything that is watched.
#[derive(Clone)]
pub struct Caches {
    /// Services; of those that do not concern us only the name is kept.
    pub services: Store<Service>,
    /// Deployments with our label.
    pub deployments: Store<Packed<Deployment>>,
    /// ConfigMaps with our label.
    pub config_maps: Store<Packed<ConfigMap>>,
    /// Pods with our label.
    pub pods: Store<Pod>,
    /// Networks of all namespaces.
    pub networks: Store<NetworkAttachmentDefinition>,
    /// Subnets.
    pub subnets: Store<Subnet>,
    /// Sluice's own reservations.
    pub reservations: Store<IPReservation>,
    /// Told when a Subnet or a reservation has changed.
    pub counted: Arc<Notify>,
}

/// Told about what a watch meets.
pub trait Observer: Clone + Send + Sync + 'static {
    /// The watch of `kind` cannot be made, for this reason; `None`: it works.
    fn watch(&self, kind: &str, problem: Option<String>);
}

/// Starts the watches, as tasks of `tasks`, of one namespace or of all. What changes brings its Services to `queue`.
pub fn start(
    client: &Client,
    namespace: Option<&str>,
    queue: &Queue,
    observer: &impl Observer,
    tasks: &mut JoinSet<()>,
) -> Caches {
    let (services, writer) = reflector::store();
    let counted = Arc::new(Notify::new());
    let mut start = Start {
        client,
        namespace,
        queue,
        observer,
        tasks,
        services: services.clone(),
        counted: counted.clone(),
    };
    let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    start.watch_into(writer, start.scoped(), watcher::Config::default(), related::strip_service);
    Caches {
        services,
        deployments: start.watch(start.scoped(), ours.clone(), strip),
        config_maps: start.watch(start.scoped(), ours.clone(), strip),
        pods: start.watch(start.scoped(), ours, related::strip_pod),
        networks: start.watch(Api::all(client.clone()), watcher::Config::default(), strip),
        subnets: start.watch(Api::all(client.clone()), watcher::Config::default(), strip),
        reservations: start.watch(Api::all(client.clone()), watcher::Config::default(), strip),
        counted,
    }
}

impl Caches {
    /// Waits until each watch has seen everything that there is.
    ///
    /// # Errors
    /// A watch has ended, which is at the end of the process.
    pub async fn synced(&self) -> Result<(), WriterDropped> {
        self.services.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.networks.wait_until_ready().await?;
        self.subnets.wait_until_ready().await?;
        self.reservations.wait_until_ready().await
    }
}

/// A kind that can be watched.
trait Watched:
    Resource<DynamicType = ()> + Changed + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Changed + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// Drops what of an object nobody here reads.
fn strip<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

struct Start<'a, O> {
    client: &'a Client,
    namespace: Option<&'a str>,
    queue: &'a Queue,
    observer: &'a O,
    tasks: &'a mut JoinSet<()>,
    services: Store<Service>,
    counted: Arc<Notify>,
}

impl<O: Observer> Start<'_, O> {
    fn scoped<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn watch<K: Watched>(&mut self, api: Api<K>, config: watcher::Config, strip: fn(&mut K)) -> Store<K> {
        let (reader, writer) = reflector::store();
        self.watch_into(writer, api, config, strip);
        reader
    }

    fn watch_into<K: Watched>(
        &mut self,
        writer: Writer<K>,
        api: Api<K>,
        config: watcher::Config,
        strip: fn(&mut K),
    ) {
        let kind = K::kind(&()).into_owned();
        let (queue, observer) = (self.queue.clone(), self.observer.clone());
        let (services, counted) = (self.services.clone(), self.counted.clone());
        let stream = watch(api, config).default_backoff().modify(strip).reflect(writer);
        observer.watch(&kind, Some("not everything has been read yet".to_owned()));
        self.tasks.spawn(async move {
            pin_mut!(stream);
            let mut essences = Essences::default();
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        if matches!(event, watcher::Event::InitDone | watcher::Event::Apply(_)) {
                            observer.watch(&kind, None);
                        }
                        if K::COUNTED {
                            counted.notify_one();
                        }
                        if !essences.changed(&event) {
                            continue;
                        }
                        for service in concerned(&event, &services) {
                            // The receiver is gone at the end of the process only.
                            let _ = queue.send(service);
                        }
                    }
                    Err(error) => {
                        let error = watch_problem(&error);
                        warn!(kind, error, "watch interrupted; it is tried again");
                        observer.watch(&kind, Some(error));
                    }
                }
            }
            debug!(kind, "watch ended");
        });
    }
}

/// The Services that `event` concerns. After a list all of them: what vanished between two lists is not told.
fn concerned<K: Changed>(event: &watcher::Event<K>, services: &Store<Service>) -> Vec<ObjectRef<Service>> {
    match event {
        watcher::Event::Apply(object) => object.concerns(services, false),
        watcher::Event::Delete(object) => object.concerns(services, true),
        watcher::Event::InitDone => all(services),
        watcher::Event::Init | watcher::Event::InitApply(_) => Vec::new(),
    }
}

/// Every Service that may concern us.
pub fn all(services: &Store<Service>) -> Vec<ObjectRef<Service>> {
    related::relevant(services).map(|service| ObjectRef::from_obj(&*service)).collect()
}

/// The pods of `service`, dying ones included.
pub fn pods_of(pods: &Store<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    pods.state_filter(|pod| crate::desired::is_pod_of(service, pod))
}
