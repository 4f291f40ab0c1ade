//! One measurement from the start of the servers to their end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use sluice_apiserver_tests::controller::Controller;
use sluice_apiserver_tests::load::{AT_ONCE, WriteLog};
use sluice_apiserver_tests::servers::Servers;
use sluice_apiserver_tests::wait;
use sluice_apiserver_tests::world::{Network, World};
use sluice_figures::Phase;

use crate::report::{Figures, rounded};
use crate::{Args, Stack, process};

/// Each Service is looked at this often, so that there are passes in the steady state, too.
const RESYNC: Duration = Duration::from_secs(20);
/// The controller is at rest when it has written nothing for this long.
const REST: Duration = Duration::from_secs(5);
/// The most memory that a controller may take, MiB.
const MEMORY: u64 = 64;

/// Measures the controller with Services of one kind.
pub async fn run(args: &Args, stack: Stack) {
    let figures = Figures(stack.name());
    let dual_stack = stack == Stack::Dual;
    Phase::begin(format!("{}: etcd, kube-apiserver, kube-controller-manager", stack.name()), 1);
    let world = World::new(Arc::new(Servers::start().await.unwrap()), "bench").await;
    let mut log = WriteLog::of(&world);
    foreign_pods(&world, args.foreign_pods).await;
    let network = network(&world, dual_stack).await;
    let resync = format!("--resync={}s", RESYNC.as_secs());
    let mut controller = world.controller_of_cluster().await.with("--leader-elect=true").with(&resync);
    controller.start().await;

    let mut phase =
        Phase::begin(format!("{} Services are created and published", args.services), args.services);
    let started = Instant::now();
    let published = world.all_published(args.services, |count| phase.done(count));
    tokio::join!(world.create_services(&network, args.services, dual_stack), published);
    figures.tell("time until all are published", rounded(started.elapsed().as_secs_f64()), "s");

    Phase::begin("until the controller is at rest", 1);
    let sorted = world.sort_writes(log.at_rest(REST).await).await;
    let goal = if dual_stack { 7 } else { 6 };
    figures.judge("creates and patches for a Service, at most", sorted.most(), "", goal);
    figures.tell("Events", sorted.events, "");
    figures.tell("writes of the Subnet's status", sorted.subnet_status, "");
    figures.judge("other writes", sorted.others.len(), "", 0);
    resources(&figures, &controller, "creation").await;

    let before = log.writes().len();
    let mut phase = Phase::begin("steady state", usize::try_from(args.steady).unwrap());
    let (started, passes) = (Instant::now(), process::passes(&controller).await);
    while started.elapsed() < Duration::from_secs(args.steady) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        phase.done(usize::try_from(started.elapsed().as_secs().min(args.steady)).unwrap());
    }
    let passes = process::passes(&controller).await - passes;
    figures.tell(&format!("passes in {} s of steady state", args.steady), passes, "");
    figures.judge("writes in them", log.writes().len() - before, "", 0);

    restart(&mut log, &mut controller, args.services, &figures).await;
    controller.terminate();
}

/// Starts the controller anew, and waits until it has looked at every Service.
async fn restart(log: &mut WriteLog<'_>, controller: &mut Controller, services: usize, figures: &Figures) {
    controller.terminate();
    let before = log.writes().len();
    let mut phase = Phase::begin("restart", services);
    let started = Instant::now();
    controller.start().await;
    let time = wait::eventually("the controller has looked at every Service", async || {
        let passes = process::passes(controller).await;
        let waiting = controller.metric("sluice_controller_queue_depth").await?;
        phase.done((passes as usize).min(services));
        (passes >= services as f64 && waiting == 0.0).then(|| started.elapsed())
    })
    .await;
    figures.tell("time until a restarted controller has looked at all", rounded(time.as_secs_f64()), "s");
    let after = log.at_rest(REST).await.len();
    figures.judge("writes after the restart", after - before, "", 0);
    resources(figures, controller, "restart").await;
}

/// What the controller's process has taken so far.
async fn resources(figures: &Figures, controller: &Controller, phase: &str) {
    for (name, part) in [("half of the passes", 0.5), ("99 % of the passes", 0.99)] {
        let time = process::pass_time(controller, part).await;
        figures.tell(&format!("{phase}: {name} within"), rounded(time), "ms");
    }
    figures.tell(&format!("{phase}: passes"), process::passes(controller).await, "");
    let cpu = process::cpu_time(controller).as_secs_f64();
    figures.tell(&format!("{phase}: CPU time"), rounded(cpu), "s");
    figures.judge(&format!("{phase}: peak memory"), rounded(process::peak_memory(controller)), "MiB", MEMORY);
}

async fn network(world: &World, dual_stack: bool) -> Network {
    if dual_stack {
        world
            .network("external", "172.18.0.0/16,2001:db8::/64")
            .gateway("172.18.0.1,2001:db8::1")
            .create()
            .await
    } else {
        world.network("external", "172.18.0.0/16").gateway("172.18.0.1").create().await
    }
}

/// Pods that are no concern of the controller's. No node takes them.
async fn foreign_pods(world: &World, count: usize) {
    const NAMESPACE: &str = "foreign";
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace: Namespace = object(json!({ "metadata": { "name": NAMESPACE } }));
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), NAMESPACE);
    wait::eventually("the namespace has its service account", async || {
        accounts.get_opt("default").await.unwrap().map(drop)
    })
    .await;
    let api: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let create = async |number: usize| {
        let pod: Pod = object(json!({
            "metadata": { "name": format!("pod-{number}"), "labels": { "app": "web", "service": "web" } },
            "spec": { "containers": [{ "name": "web", "image": "registry.example/web:1", "ports": [{ "containerPort": 80 }] }] },
        }));
        api.create(&PostParams::default(), &pod).await.unwrap();
    };
    let mut phase = Phase::begin(format!("{count} foreign pods"), count);
    let mut created =
        std::pin::pin!(stream::iter(0..count).map(create).buffer_unordered(AT_ONCE).enumerate());
    while let Some((done, ())) = created.next().await {
        phase.done(done + 1);
    }
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}
