//! A played Kube-OVN: what was seen of the real one, run against a real API server.
//!
//! It gives addresses to pods by annotations and to `Vip` objects by their status, refuses pods by Events and `Vip` objects by silence, and
//! marks its Subnets by a finalizer. All that it knows it reads from the objects, so that it may be dropped and started again.

mod pods;
mod pool;
mod subnets;

use std::time::Duration;

use anyhow::Result;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use sluice_controller::api::{NetworkAttachmentDefinition, Subnet, Vip};
use tokio::task::JoinHandle;

use crate::wait;
use pool::Pool;

/// How soon something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Which release it behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v1.16.2: every pod of a network gets an address of its Subnet.
    V1_16,
    /// The master branch of 2026-08: only where the network says `ipam.type: kube-ovn`.
    Master,
}

/// The controller of Kube-OVN. It ends when this value is dropped.
#[derive(Debug)]
pub struct KubeOvn {
    task: JoinHandle<()>,
}

/// What it works with.
struct Cluster {
    client: Client,
    version: Version,
    /// The names of its Subnets.
    subnets: Vec<String>,
    pods: Api<Pod>,
    /// Refusals that were told: pod and text.
    told: Vec<(String, String)>,
}

impl KubeOvn {
    /// Starts one for the pods of `namespace` and the Subnets of these names, and waits until those are its own.
    pub async fn start(client: Client, namespace: &str, version: Version, subnets: Vec<String>) -> Self {
        let pods = Api::namespaced(client.clone(), namespace);
        let mut cluster = Cluster { client, version, subnets, pods, told: Vec::new() };
        // A server that has just learnt of a kind says that it is not ready.
        wait::eventually("Kube-OVN takes over its Subnets", async || cluster.pass().await.ok()).await;
        Self { task: tokio::spawn(cluster.run()) }
    }
}

impl Drop for KubeOvn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cluster {
    async fn run(mut self) {
        let mut changes = stream::select_all([
            changes(self.pods.clone()),
            changes::<Vip>(Api::all(self.client.clone())),
            changes::<Subnet>(Api::all(self.client.clone())),
            changes::<NetworkAttachmentDefinition>(Api::all(self.client.clone())),
        ]);
        while changes.next().await.is_some() {
            // One pass for all that has changed meanwhile.
            while changes.next().now_or_never().flatten().is_some() {}
            while self.pass().await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Looks at everything, and does what is missing.
    async fn pass(&mut self) -> Result<()> {
        let pods = self.pods.list(&ListParams::default()).await?.items;
        let vips = Api::<Vip>::all(self.client.clone()).list(&ListParams::default()).await?.items;
        for name in self.subnets.clone() {
            let Some(subnet) = self.subnet_api().get_opt(&name).await? else { continue };
            let mut pool = Pool::of(&subnet.spec);
            pool.taken.extend(pods.iter().flat_map(|pod| pods::addresses(pod, &subnet)));
            pool.taken.extend(vips.iter().filter(|vip| vip.spec.subnet == name).flat_map(subnets::addresses));
            self.mark(&subnet, &pool).await?;
            for vip in
                vips.iter().filter(|vip| vip.spec.subnet == name && vip.metadata.deletion_timestamp.is_none())
            {
                self.answer_vip(vip, &mut pool).await?;
            }
            for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                self.answer_pod(pod, &subnet, &mut pool).await?;
            }
            self.count(&subnet, &pool).await?;
        }
        Ok(())
    }

    fn subnet_api(&self) -> Api<Subnet> {
        Api::all(self.client.clone())
    }
}

/// Something for each change of an object of the kind.
fn changes<K>(api: Api<K>) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let tell = async |event: watcher::Result<watcher::Event<K>>| {
        if event.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    };
    watcher(api, watcher::Config::default()).then(tell).boxed()
}
