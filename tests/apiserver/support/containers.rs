//! Containers of Sluice's own pods: where the kubelet is played, what they would run runs as processes of this machine.
//!
//! Each gets the arguments and the service account that its pod names, so what is tested is what the chart has written. Only the address of
//! probes is another one, since these pods share a network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::controller::ask;
use crate::folder::Folder;
use crate::kubelet::{Conduct, Kubelet};
use crate::process::Process;
use crate::servers::Servers;
use crate::world::token;
use crate::{loopback, process, programs};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);

/// The node of one namespace, on which Sluice's own pods run. All ends when this value is dropped.
pub struct Node {
    kubelet: Arc<Kubelet>,
    folder: Arc<Folder>,
    task: JoinHandle<()>,
}

impl Node {
    /// Starts it for the pods of `namespace`. They become Ready when their programs say so.
    pub fn start(servers: &Arc<Servers>, client: &Client, namespace: &str) -> Self {
        let kubelet = Arc::new(Kubelet::start(client.clone(), namespace));
        kubelet.set("", Conduct::Unready);
        // They end in good order first.
        kubelet.keep_deleted_pods(true);
        let folder = Arc::new(Folder::new().unwrap());
        let runner = Runner {
            servers: Arc::clone(servers),
            pods: Api::namespaced(client.clone(), namespace),
            accounts: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            kubelet: Arc::clone(&kubelet),
            folder: Arc::clone(&folder),
            containers: BTreeMap::new(),
        };
        Self { kubelet, folder, task: tokio::spawn(runner.run()) }
    }

    /// Decides what becomes of pods.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// What the containers of the pod `name` have logged.
    pub fn log(&self, name: &str) -> String {
        process::tail(&log(&self.folder, name), usize::MAX)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    servers: Arc<Servers>,
    pods: Api<Pod>,
    accounts: Api<ServiceAccount>,
    namespace: String,
    kubelet: Arc<Kubelet>,
    folder: Arc<Folder>,
    containers: BTreeMap<String, Container>,
}

struct Container {
    process: Process,
    admin: SocketAddr,
    ready: bool,
    /// Whether the API server knows how it ended.
    told: bool,
}

impl Runner {
    async fn run(mut self) {
        loop {
            // What fails is done in the next round: the API server may be on its way out.
            if let Ok(pods) = self.pods.list(&ListParams::default()).await {
                for pod in &pods.items {
                    self.attend(pod).await;
                }
                let lives = |name: &String| pods.items.iter().any(|pod| pod.name_any() == *name);
                self.containers.retain(|name, _| lives(name));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn attend(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let dying = pod.metadata.deletion_timestamp.is_some();
        let Some(container) = self.containers.get_mut(&name) else {
            let is_ours =
                pod.labels().get("app.kubernetes.io/name").is_some_and(|of| of.starts_with("sluice-"));
            let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            if dying {
                self.remove(pod).await;
            } else if is_ours && has_node {
                let container = self.start(pod).await;
                self.containers.insert(name, container);
            }
            return;
        };
        let runs_once = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never");
        match container.process.ended() {
            None if dying => container.process.signal(Signal::SIGTERM),
            None => {
                let ready =
                    !runs_once && ask(container.admin, "/readyz").await.is_ok_and(|(code, _)| code == 200);
                if ready != container.ready {
                    container.ready = ready;
                    self.kubelet.set(&name, if ready { Conduct::Ready } else { Conduct::Unready });
                }
            }
            Some(_) if dying => self.remove(pod).await,
            Some(status) if runs_once => {
                if !container.told {
                    let phase = if status.success() { "Succeeded" } else { "Failed" };
                    let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "phase": phase } });
                    let patched =
                        self.pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
                    container.told = patched.is_ok();
                }
            }
            // As a kubelet does: anew.
            Some(_) => drop(self.containers.remove(&name)),
        }
    }

    /// Takes the pod away. If that fails, the next round tries again.
    async fn remove(&self, pod: &Pod) {
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
        let _ = self.pods.delete(&pod.name_any(), &params).await;
    }

    async fn start(&self, pod: &Pod) -> Container {
        let spec = pod.spec.as_ref().unwrap();
        let [container] = spec.containers.as_slice() else { panic!("not one container: {spec:?}") };
        assert_eq!(container.command.as_deref(), Some(&["/sluice-controller".to_owned()][..]));
        let admin = loopback::free();
        let address = format!("--admin-address={admin}");
        let arguments = container.args.iter().flatten();
        let arguments = arguments
            .map(|argument| if argument.starts_with("--admin-address=") { &address } else { argument });
        let token = token(&self.accounts, spec.service_account_name.as_deref().unwrap()).await;
        let kubeconfig = format!("{}.kubeconfig", pod.name_any());
        let kubeconfig =
            self.folder.write(&kubeconfig, &self.servers.kubeconfig(&token, &self.namespace)).unwrap();
        let mut command = Command::new(programs::controller().unwrap());
        command.args(arguments).env("KUBECONFIG", kubeconfig);
        let process = Process::start(command, &log(&self.folder, &pod.name_any())).unwrap();
        Container { process, admin, ready: false, told: false }
    }
}

fn log(folder: &Folder, pod: &str) -> PathBuf {
    folder.file(&format!("{pod}.log"))
}
