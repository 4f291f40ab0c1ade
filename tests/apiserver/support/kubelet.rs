//! A played kubelet, and scheduler: pods get a node, run and become Ready, and go when they are deleted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The node that pods are put on.
pub const NODE: &str = "node1";
/// How soon something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It gets a node, runs and is Ready.
    Ready,
    /// It gets a node and runs, but its probe fails.
    Unready,
    /// No node takes it.
    Pending,
}

/// The kubelet of one namespace. It ends when this value is dropped.
#[derive(Debug)]
pub struct Kubelet {
    rules: Arc<Rules>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Rules {
    conducts: Mutex<Vec<(String, Conduct)>>,
    /// Pods are not removed, as if their node had died.
    keeps_deleted: Mutex<bool>,
    changed: Notify,
}

impl Kubelet {
    /// Starts one for the pods of `namespace`; all become Ready until told otherwise.
    pub fn start(client: Client, namespace: &str) -> Self {
        let rules = Arc::new(Rules::default());
        let pods = Api::namespaced(client, namespace);
        let task = tokio::spawn(run(pods, Arc::clone(&rules)));
        Self { rules, task }
    }

    /// From now on, pods whose name begins with `prefix` behave like this, those that run already too. The last word counts.
    pub fn set(&self, prefix: &str, conduct: Conduct) {
        self.rules.conducts.lock().unwrap().push((prefix.to_owned(), conduct));
        self.rules.changed.notify_one();
    }

    /// Whether deleted pods stay, as they do while their node is away. Off at first.
    pub fn keep_deleted_pods(&self, keep: bool) {
        *self.rules.keeps_deleted.lock().unwrap() = keep;
        self.rules.changed.notify_one();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rules {
    fn conduct(&self, pod: &str) -> Conduct {
        let conducts = self.conducts.lock().unwrap();
        conducts
            .iter()
            .rev()
            .find(|(prefix, _)| pod.starts_with(prefix))
            .map_or(Conduct::Ready, |(_, conduct)| *conduct)
    }
}

async fn run(api: Api<Pod>, rules: Arc<Rules>) {
    let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
    let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
    let mut failed = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Init)) => pods.clear(),
                Some(Ok(Event::InitApply(pod) | Event::Apply(pod))) => {
                    let name = pod.name_any();
                    failed |= attend(&api, &rules, &pod).await.is_err();
                    pods.insert(name, pod);
                }
                Some(Ok(Event::Delete(pod))) => drop(pods.remove(&pod.name_any())),
                Some(Ok(Event::InitDone)) => {}
                Some(Err(_)) => tokio::time::sleep(AGAIN).await,
                None => return,
            },
            () = again(&rules, failed) => {
                failed = false;
                for pod in pods.values() {
                    failed |= attend(&api, &rules, pod).await.is_err();
                }
            }
        }
    }
}

/// Resolves when all pods should be looked at again.
async fn again(rules: &Rules, failed: bool) {
    tokio::select! {
        () = rules.changed.notified() => {}
        () = tokio::time::sleep(AGAIN), if failed => {}
    }
}

/// Does the next thing that a kubelet would do for the pod.
async fn attend(api: &Api<Pod>, rules: &Rules, pod: &Pod) -> kube::Result<()> {
    let name = pod.name_any();
    let conduct = rules.conduct(&name);
    if pod.metadata.deletion_timestamp.is_some() {
        if *rules.keeps_deleted.lock().unwrap() {
            return Ok(());
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        return ignore_gone(api.delete(&name, &params).await.map(drop));
    }
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !has_node {
        if conduct == Conduct::Pending {
            return Ok(());
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
        });
        let bound =
            api.create_subresource::<Value, Value>("binding", &name, &PostParams::default(), &binding).await;
        return ignore_gone(bound.map(drop));
    }
    // A pod that has a node keeps it.
    let ready = conduct == Conduct::Ready;
    if is_ready(pod) == Some(ready) {
        return Ok(());
    }
    let status = json!({ "metadata": { "uid": pod.uid() }, "status": status(pod, ready) });
    ignore_gone(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop))
}

/// Whether the pod is Ready; `None`: nobody has said so far.
pub fn is_ready(pod: &Pod) -> Option<bool> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    Some(conditions.iter().find(|condition| condition.type_ == "Ready")?.status == "True")
}

fn status(pod: &Pod, ready: bool) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": now })
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": ready, "started": true,
            "restartCount": 0, "state": { "running": { "startedAt": now } },
        })
    });
    let address = pod_address(pod);
    json!({
        "phase": "Running",
        "hostIP": "192.0.2.1",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "startTime": now,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}

/// The address that the pod has, or one that depends on nothing but its name.
fn pod_address(pod: &Pod) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    if let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
        return address;
    }
    let mut hasher = DefaultHasher::new();
    pod.uid().hash(&mut hasher);
    let [high, low, ..] = hasher.finish().to_be_bytes();
    // The controller asks its gateways: that must not leave the machine.
    Ipv4Addr::new(127, 16, high, low).to_string()
}

/// The pod may have gone, or have been replaced by another of its name, meanwhile.
fn ignore_gone(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}
