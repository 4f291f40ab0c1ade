//! A controller that is killed after any of its writes, and started again, ends where one does that was left alone.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::api::ListParams;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_apiserver_tests::controller::Controller;
use sluice_apiserver_tests::proxy::Mode;
use sluice_apiserver_tests::wait::eventually;
use sluice_apiserver_tests::world::{self, Network, World, vips};
use sluice_controller::api::annotation;

use super::history::{History, Seen};

/// The Service of all runs, one after the other.
const WEB: &str = "web";
/// More writes than there will be.
const NEVER: usize = usize::MAX;
/// Who has written nothing for so long has nothing to write.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn killed_while_a_service_gets_its_addresses() {
    world::test(async |world| {
        let network = dual_stack(world).await;
        let mut runs = Runs::new(world, &network).await;
        let change = async |runs: &Runs<'_>| runs.create().await;
        let kills = runs
            .all(
                async |_| {},
                change,
                is_served,
                |seen| {
                    assert_eq!(seen.ever.len(), 2, "one reservation of each family, and no other: {seen:?}");
                },
            )
            .await;
        assert!(kills >= 7, "only {kills} writes");
    });
}

#[test]
fn killed_while_a_service_is_deleted() {
    world::test(async |world| {
        let network = dual_stack(world).await;
        let mut runs = Runs::new(world, &network).await;
        let change = async |runs: &Runs<'_>| runs.world.delete_service(WEB).await;
        let kills = runs
            .all(served, change, is_gone, |seen| {
                assert_eq!(seen.ever.len(), 2, "nothing is reserved anew: {seen:?}")
            })
            .await;
        assert!(kills >= 5, "only {kills} writes");
    });
}

#[test]
fn killed_while_an_address_changes() {
    world::test(async |world| {
        let network = dual_stack(world).await;
        let mut runs = Runs::new(world, &network).await;
        let change = async |runs: &Runs<'_>| {
            let wanted = json!({ "spec": { "loadBalancerIP": "172.18.0.50,fd00:18::50" } });
            drop(runs.world.patch_service(WEB, wanted).await);
        };
        let is_done = |state: &Value| {
            let both = json!(["172.18.0.50", "fd00:18::50"]);
            is_served(state) && state["service"]["vips"] == both && state["reservations"] == both
        };
        let kills = runs
            .all(served, change, is_done, |seen| {
                let four = ["172.18.0.11", "172.18.0.50", "fd00:18::2", "fd00:18::50"];
                let four: BTreeSet<IpAddr> = four.iter().map(|address| address.parse().unwrap()).collect();
                assert_eq!(seen.addresses(), four);
                assert_eq!(seen.ever.len(), 4, "none is given up and taken again: {seen:?}");
                assert_eq!(seen.most, 2, "the old one and the new one");
            })
            .await;
        assert!(kills >= 7, "only {kills} writes");
    });
}

#[test]
fn killed_while_a_service_stops_being_a_load_balancer() {
    world::test(async |world| {
        let network = dual_stack(world).await;
        let mut runs = Runs::new(world, &network).await;
        let change = async |runs: &Runs<'_>| {
            drop(runs.world.patch_service(WEB, json!({ "spec": { "type": "ClusterIP" } })).await);
        };
        let is_done = |state: &Value| {
            let nobodys = json!({ "type": "ClusterIP", "finalizers": [], "vips": [] });
            state["service"] == nobodys && is_without_objects(state)
        };
        let kills = runs
            .all(served, change, is_done, |seen| {
                assert_eq!(seen.ever.len(), 2, "nothing is reserved anew: {seen:?}")
            })
            .await;
        assert!(kills >= 5, "only {kills} writes");
    });
}

async fn dual_stack(world: &World) -> Network {
    let network = world.network("external", "172.18.0.0/16,fd00:18::/64").gateway("172.18.0.1,fd00:18::1");
    network.exclude(&["172.18.0.0..172.18.0.10"]).create().await
}

/// The step before most changes: the Service is there and served.
async fn served(runs: &Runs<'_>) {
    runs.create().await;
    eventually("the Service is served", async || is_served(&runs.state().await).then_some(())).await;
}

fn is_served(state: &Value) -> bool {
    let both = state["service"]["vips"].as_array().is_some_and(|vips| vips.len() == 2);
    let one = |kind: &str| state[kind].as_array().is_some_and(|objects| objects.len() == 1);
    both && one("Deployment") && one("ConfigMap") && one("Pod")
}

fn is_gone(state: &Value) -> bool {
    state["service"] == Value::Null && is_without_objects(state)
}

fn is_without_objects(state: &Value) -> bool {
    ["Deployment", "ConfigMap", "Pod", "reservations"].iter().all(|kind| state[kind] == json!([]))
}

/// Many runs of the same change.
struct Runs<'w> {
    world: &'w World,
    network: &'w Network,
    controller: Controller,
    /// Those of the first run are asked for in the later ones: what is compared contains them.
    cluster_ips: OnceCell<Vec<String>>,
}

impl<'w> Runs<'w> {
    async fn new(world: &'w World, network: &'w Network) -> Self {
        let controller = world.controller().await;
        Self { world, network, controller, cluster_ips: OnceCell::new() }
    }

    /// Makes the `change` after what was `before`, once with a controller that is left alone, then with one that dies after its first write, after its
    /// second, and so on until one comes to its end. Each run ends in the same state, and `holds` is true of it. Returns how often it died.
    async fn all(
        &mut self,
        before: impl AsyncFn(&Self),
        change: impl AsyncFn(&Self),
        is_done: impl Fn(&Value) -> bool,
        holds: impl Fn(&Seen),
    ) -> usize {
        let mut wanted = None;
        self.controller.start().await;
        for kills in 0.. {
            let history = History::of(self.world, self.network).await;
            before(self).await;
            self.world.proxy.quiet(QUIET).await;
            self.world.proxy.clear();

            let cut = self.world.proxy.cut_after_write(if kills == 0 { NEVER } else { kills });
            change(self).await;
            let left_alone = async {
                self.becomes("all is done", |state| is_done(state)).await;
                self.world.proxy.quiet(QUIET).await;
            };
            let died = tokio::select! {
                biased;
                write = cut => Some(write.unwrap()),
                () = left_alone => None,
            };
            // It may not have come.
            drop(self.world.proxy.cut_after_write(NEVER));
            if let Some(write) = &died {
                println!("killed after write {kills}: {write}");
                self.controller.kill();
                self.world.proxy.set(Mode::Pass);
                self.controller.start().await;
            }
            let wanted = match &wanted {
                Some(wanted) => wanted,
                None => wanted.insert(self.state().await),
            };
            self.becomes("the end is the same as without a death", |state| state == wanted).await;
            holds(&history.caught_up(self.world, self.network).await);

            if wanted["service"] != Value::Null {
                self.world.delete_service(WEB).await;
            }
            self.becomes("nothing is left", is_gone).await;
            if kills > 0 && died.is_none() {
                return kills - 1;
            }
        }
        unreachable!("a change has an end")
    }

    async fn create(&self) {
        let service = self.world.service(WEB).on(self.network).dual_stack();
        let service = service.edit(|service| {
            let spec = service.spec.as_mut().unwrap();
            spec.cluster_ips = self.cluster_ips.get().cloned();
            spec.cluster_ip = self.cluster_ips.get().map(|addresses| addresses[0].clone());
        });
        let service = service.create().await;
        self.cluster_ips.get_or_init(|| service.spec.unwrap().cluster_ips.unwrap());
    }

    async fn becomes(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || Some(self.state().await).filter(|state| holds(state))).await
    }

    /// All that there is of the Service, without what differs between two Services.
    async fn state(&self) -> Value {
        let service = self.world.api::<Service>().get_opt(WEB).await.unwrap();
        let reservations = self.world.reservations(self.network).await;
        let state = json!({
            "service": service.as_ref().map(|service| json!({
                "type": service.spec.as_ref().unwrap().type_,
                "finalizers": service.finalizers(),
                "vips": vips(service),
            })),
            "Deployment": self.objects::<Deployment>(|deployment| json!(deployment.spec)).await,
            "ConfigMap": self.objects::<ConfigMap>(|map| json!(map.data)).await,
            "Pod": self.objects::<Pod>(|_| Value::Null).await,
            "reservations": reservations.iter().map(|held| held.spec.address).collect::<Vec<_>>(),
        });
        let Some(uid) = service.and_then(|service| service.uid()) else { return state };
        serde_json::from_str(&state.to_string().replace(&uid, "the UID")).unwrap()
    }

    /// The objects of a kind that Sluice has made: labels, annotations, owners, and what `content` takes of them.
    async fn objects<K>(&self, content: impl Fn(&K) -> Value) -> Vec<Value>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Metadata<Ty = ObjectMeta>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=sluice-controller");
        let objects = self.world.api::<K>().list(&ours).await.unwrap().items;
        let describe = |object: &K| {
            let (mut annotations, mut labels) = (object.annotations().clone(), object.labels().clone());
            // Hashes of the UID, among other things.
            annotations.retain(|key, _| !key.starts_with(annotation::APPLIED));
            labels.remove("pod-template-hash");
            let owners: Vec<&String> = object.owner_references().iter().map(|owner| &owner.kind).collect();
            json!({
                "labels": labels, "annotations": annotations, "owners": owners, "content": content(object),
                "dying": object.meta().deletion_timestamp.is_some(),
            })
        };
        objects.iter().map(describe).collect()
    }
}
