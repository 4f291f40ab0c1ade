//! What each test starts from: a namespace of its own, and all that acts in it.

mod account;
mod dump;
mod gateway;
mod network;
mod objects;
mod service;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_util::FutureExt as _;
use kube::Client;

use crate::controller::Controller;
use crate::folder::Folder;
use crate::kube_ovn::{KubeOvn, Version};
use crate::kubelet::Kubelet;
use crate::proxy::Proxy;
use crate::servers::{Servers, kubeconfig};
pub use account::token;
pub use gateway::annotate;
pub use network::{Network, NetworkBuilder};
pub use service::{ServiceBuilder, vips};

/// The world of one test.
pub struct World {
    /// The control plane, which other tests may be using too.
    pub servers: Arc<Servers>,
    /// May do everything.
    pub client: Client,
    /// The test's own.
    pub namespace: String,
    /// Between the controllers of [`Self::controller`] and the API server.
    pub proxy: Proxy,
    /// Makes the namespace's pods run.
    pub kubelet: Kubelet,
    controllers: AtomicUsize,
    folder: Folder,
}

/// Runs a test in a world of its own. If it panics, what is there and what the controllers logged is printed.
pub fn test(body: impl AsyncFnOnce(&World)) {
    run(body, async || World::new(Servers::shared().await, &own_namespace()).await);
}

/// The same with a control plane of the test's own, of which it may stop some.
pub fn test_with_own_servers(body: impl AsyncFnOnce(&World)) {
    run(body, async || World::new(Arc::new(Servers::start().await.unwrap()), &own_namespace()).await);
}

/// The same in a namespace that has a name already. Only one test at a time may use it.
pub fn test_in(namespace: &str, body: impl AsyncFnOnce(&World)) {
    run(body, async || World::new(Servers::shared().await, namespace).await);
}

fn run(body: impl AsyncFnOnce(&World), begin: impl AsyncFnOnce() -> World) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = begin().await;
        if let Err(panic) = AssertUnwindSafe(body(&world)).catch_unwind().await {
            world.dump().await;
            resume_unwind(panic);
        }
    });
    runtime.shutdown_background();
}

/// A name that says which test it is for. Two tests may have the same last name, hence the number.
fn own_namespace() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let thread = thread::current();
    let test = thread.name().and_then(|path| path.rsplit("::").next()).unwrap_or("test").replace('_', "-");
    let short: String = test.chars().filter(char::is_ascii).take(40).collect();
    format!("{}-{}", short.trim_matches('-').to_lowercase(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// One with this namespace. [`test`] and its like make it by themselves.
    pub async fn new(servers: Arc<Servers>, namespace: &str) -> Self {
        let client = servers.admin().unwrap();
        let proxy = Proxy::start(&servers).await;
        let kubelet = Kubelet::start(client.clone(), namespace);
        let namespace = namespace.to_owned();
        let (controllers, folder) = (AtomicUsize::new(0), Folder::new().unwrap());
        let world = Self { servers, client, namespace, proxy, kubelet, controllers, folder };
        world.make_namespace().await;
        world.make_controller_account().await;
        world
    }

    /// A controller for the test's namespace, as [`Self::controller_user`], through [`Self::proxy`], without leader election. It does not run yet.
    pub async fn controller(&self) -> Controller {
        self.controller_through(&self.proxy).await
    }

    /// The same through another proxy.
    pub async fn controller_through(&self, proxy: &Proxy) -> Controller {
        let kubeconfig = kubeconfig(&proxy.url(), None, &self.controller_token().await, &self.namespace);
        self.controller_by(&kubeconfig, Some(&self.namespace))
    }

    /// The same for another namespace, with the role for all namespaces. The binding has room for one test at a time.
    pub async fn controller_for(&self, namespace: &str) -> Controller {
        self.widen_controller_role().await;
        let kubeconfig = kubeconfig(&self.proxy.url(), None, &self.controller_token().await, &self.namespace);
        self.controller_by(&kubeconfig, Some(namespace))
    }

    /// A controller for all namespaces, which talks to the API server itself. It does not run yet.
    pub async fn controller_of_cluster(&self) -> Controller {
        self.widen_controller_role().await;
        let kubeconfig = self.servers.kubeconfig(&self.controller_token().await, &self.namespace);
        self.controller_by(&kubeconfig, None)
    }

    fn controller_by(&self, kubeconfig: &str, namespace: Option<&str>) -> Controller {
        let number = self.controllers.fetch_add(1, Ordering::Relaxed) + 1;
        let kubeconfig = self.folder.write(&format!("controller-{number}.kubeconfig"), kubeconfig).unwrap();
        Controller::new(kubeconfig, namespace, self.controller_log(number))
    }

    /// A Kube-OVN for the test's namespace, which takes the Subnets of these networks as its own. It ends when the value is dropped.
    pub async fn kube_ovn(&self, version: Version, networks: &[&Network]) -> KubeOvn {
        let subnets = networks.iter().map(|network| network.subnet.clone()).collect();
        KubeOvn::start(self.client.clone(), &self.namespace, version, subnets).await
    }

    fn controller_log(&self, number: usize) -> PathBuf {
        self.folder.file(&format!("controller-{number}.log"))
    }

    fn controller_logs(&self) -> impl Iterator<Item = PathBuf> {
        (1..=self.controllers.load(Ordering::Relaxed)).map(|number| self.controller_log(number))
    }
}
