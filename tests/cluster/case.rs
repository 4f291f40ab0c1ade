//! What a case starts from: a namespace, a piece of the external network, and the client in it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use sluice_cluster::{Cluster, addresses::EXTERNAL_DEVICE, images::AGNHOST};

use crate::site;

/// How long anything that should happen soon may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// The annotation that makes a Service Sluice's.
const PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";

/// Held by each case: alone by one that takes the whole machine, so that the others' times are not its doing.
static MACHINE: RwLock<()> = RwLock::new(());

/// A case's hold on [`MACHINE`].
enum Hold {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// One case.
pub struct Case<'c> {
    /// The cluster, which it may share with others.
    pub cluster: &'c Cluster,
    /// Its own namespace; its Subnet is called the same.
    pub namespace: String,
    /// Its piece of the external network is `172.30.<number>.0/24` and `fd00:172:30:<number>::/64`.
    number: u8,
    /// Its end leaves everything as it is.
    stays: bool,
    _hold: Hold,
}

/// A hold for a case beside which others run.
fn hold() -> Hold {
    Hold::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }
}

impl Case<'static> {
    /// Makes the namespace, with the network `external` and its Subnet; the client has an address in it, the last but one.
    pub fn new(name: &str) -> Self {
        Self::without_network(name).with_network()
    }

    /// The same, while no other case runs.
    pub fn alone(name: &str) -> Self {
        let _guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::start(site::shared(), name, Hold::Alone { _guard }).with_network()
    }

    /// The same without network and Subnet.
    pub fn without_network(name: &str) -> Self {
        let hold = hold();
        Self::start(site::shared(), name, hold)
    }
}

impl<'c> Case<'c> {
    /// As [`Case::new`], on a cluster of its own.
    pub fn on(cluster: &'c Cluster, name: &str) -> Self {
        Self::without_network_on(cluster, name).with_network()
    }

    /// As [`Case::without_network`], on a cluster of its own.
    pub fn without_network_on(cluster: &'c Cluster, name: &str) -> Self {
        Self::start(cluster, name, hold())
    }

    /// Lets go of the cluster and leaves everything in it as it is, for [`Self::rejoin`].
    pub fn part(mut self) -> (String, u8) {
        self.stays = true;
        (self.namespace.clone(), self.number)
    }

    /// The case that was left by [`Self::part`].
    pub fn rejoin(cluster: &'c Cluster, (namespace, number): (String, u8)) -> Self {
        Self { cluster, namespace, number, stays: false, _hold: hold() }
    }

    fn with_network(self) -> Self {
        self.apply(&self.network("external", &json!({})));
        self.apply(&self.subnet("external"));
        self
    }

    fn start(cluster: &'c Cluster, name: &str, _hold: Hold) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let case = Self { cluster, namespace: name.to_owned(), number, stays: false, _hold };
        case.cluster.kubectl(&["create", "namespace", name]).unwrap();
        let number = case.number;
        cluster
            .client
            .ip(&format!(
                "addr add 172.30.{number}.254/24 dev eth0
                 addr add fd00:172:30:{number}::fe/64 dev eth0 nodad"
            ))
            .unwrap();
        case
    }

    /// An address of the case's piece of the external network.
    pub fn address(&self, host: u8) -> String {
        format!("172.30.{}.{host}", self.number)
    }

    /// The same in IPv6.
    pub fn address_v6(&self, host: u8) -> String {
        format!("fd00:172:30:{}::{host:x}", self.number)
    }

    /// A macvlan network, with further fields of its configuration.
    pub fn network(&self, name: &str, more: &Value) -> Value {
        let mut config =
            json!({ "cniVersion": "0.3.0", "type": "macvlan", "master": EXTERNAL_DEVICE, "mode": "bridge" });
        merge(&mut config, more);
        json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": { "config": config.to_string() },
        })
    }

    /// A Subnet with both families for the network `name`. Nobody has the gateways' addresses, unless the case sees to that.
    pub fn subnet(&self, name: &str) -> Value {
        let number = self.number;
        json!({
            "apiVersion": "kubeovn.io/v1",
            "kind": "Subnet",
            "metadata": { "name": self.namespace },
            "spec": {
                "protocol": "Dual",
                "provider": self.provider(name),
                "cidrBlock": format!("172.30.{number}.0/24,fd00:172:30:{number}::/64"),
                "gateway": format!("{},{}", self.address(1), self.address_v6(1)),
                "excludeIps": [self.address(254), self.address_v6(254)],
            },
        })
    }

    /// By what Services name a network.
    pub fn provider(&self, network: &str) -> String {
        format!("{network}.{}", self.namespace)
    }

    /// A Service of type LoadBalancer for the backends, with further fields of its `spec`.
    pub fn service(&self, name: &str, spec: &Value) -> Value {
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "annotations": { PROVIDER: self.provider("external") },
            },
            "spec": {
                "type": "LoadBalancer",
                "selector": { "app": "backend" },
                "ports": [{ "name": "web", "port": 80, "targetPort": 8080 }],
            },
        });
        merge(&mut service["spec"], spec);
        service
    }

    /// Two backends that answer HTTP on port 8080 and UDP on 8081, and say their names when asked for `hostname`.
    pub fn start_backends(&self) {
        self.apply(&json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "backend", "namespace": self.namespace },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": { "app": "backend" } },
                "template": {
                    "metadata": { "labels": { "app": "backend" } },
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{
                            "name": "backend",
                            "image": AGNHOST,
                            "args": ["netexec", "--http-port=8080", "--udp-port=8081"],
                            "readinessProbe": { "httpGet": { "port": 8080, "path": "/healthz" }, "periodSeconds": 1 },
                        }],
                    },
                },
            },
        }));
        self.kubectl(&["rollout", "status", "deployment/backend", "--timeout=90s"]);
    }

    /// Applies an object.
    pub fn apply(&self, object: &Value) {
        self.cluster.apply(&object.to_string()).unwrap();
    }

    /// Runs `kubectl` in the case's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap()
    }

    /// The same where it may fail.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// An object, such as `service/web`; `None`: there is none.
    pub fn find(&self, object: &str) -> Option<Value> {
        let text = self.kubectl(&["get", object, "--ignore-not-found", "-o", "json"]);
        (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// The objects of a kind that have these labels, or all (`""`).
    pub fn list(&self, kind: &str, labels: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "--selector", labels, "-o", "json"]);
        let mut list: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// Merges `patch` into an object.
    pub fn patch(&self, object: &str, patch: &Value) {
        self.kubectl(&["patch", object, "--type=merge", "--patch", &patch.to_string()]);
    }

    /// Waits until the addresses of a Service are published, and returns them.
    pub fn published(&self, service: &str) -> Vec<String> {
        self.eventually(&format!("{service} has an address"), || {
            Some(self.addresses(service)).filter(|addresses| !addresses.is_empty())
        })
    }

    /// What the status of a Service shows.
    pub fn addresses(&self, service: &str) -> Vec<String> {
        let Some(service) = self.find(&format!("service/{service}")) else { return Vec::new() };
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        ingress.iter().filter_map(|entry| Some(entry["ip"].as_str()?.to_owned())).collect()
    }

    /// The gateway pods of a Service that are not on their way out.
    pub fn gateway_pods(&self, service: &str) -> Vec<Value> {
        let pods = self.list("pods", &format!("app=lb-svc-{service}"));
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    /// Waits for an Event on a Service whose message contains `text`, and returns the message.
    pub fn event(&self, service: &str, reason: &str, text: &str) -> String {
        self.eventually(&format!("an Event {reason} on {service} with {text:?}"), || {
            self.events(service, reason).into_iter().find(|message| message.contains(text))
        })
    }

    /// The messages of the Events on a Service that there are.
    pub fn events(&self, service: &str, reason: &str) -> Vec<String> {
        let fields = format!("involvedObject.kind=Service,involvedObject.name={service},reason={reason}");
        let text = self.kubectl(&["get", "events", "--field-selector", &fields, "-o", "json"]);
        let events: Value = serde_json::from_str(&text).unwrap();
        let events = events["items"].as_array().cloned().unwrap_or_default();
        events.iter().filter_map(|event| Some(event["message"].as_str()?.to_owned())).collect()
    }

    /// Asks a web server from the external network, once.
    pub fn curl(&self, url: &str) -> Result<String> {
        self.cluster.client.output("curl", &["-sS", "-g", "-m", "2", url])
    }

    /// Asks backends for their name, once.
    pub fn hostname(&self, server: &str) -> Result<String> {
        self.curl(&format!("http://{server}/hostname"))
    }

    /// Fails unless a backend answers the first time that it is asked.
    pub fn assert_served(&self, server: &str) {
        let name = self.hostname(server).unwrap();
        assert!(name.starts_with("backend-"), "{server} says {name:?}");
    }

    /// Fails if anybody answers.
    pub fn assert_not_served(&self, server: &str) {
        let answer = self.hostname(server);
        assert!(answer.is_err(), "{server} says {answer:?}");
    }

    /// Waits until a value is there.
    pub fn eventually<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        within(PATIENCE, what, check)
    }
}

/// Waits until a value is there, with a deadline.
pub fn within<T>(deadline: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Puts the fields of `more` into an object.
fn merge(object: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
}

impl Drop for Case<'_> {
    /// If the case has failed, what there is is printed. The cluster outlives it: what others need not wait for goes.
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let say = |arguments: &[&str]| {
            eprintln!("$ kubectl {}", arguments.join(" "));
            match self.try_kubectl(arguments) {
                Ok(text) => eprintln!("{text}"),
                Err(error) => eprintln!("{error:#}"),
            }
        };
        if thread::panicking() {
            say(&["get", "all,configmaps", "-o", "wide"]);
            say(&["get", "events", "--sort-by=.lastTimestamp"]);
            say(&["describe", "services"]);
            say(&["logs", "--selector=app.kubernetes.io/managed-by=sluice-controller", "--tail=20"]);
            say(&["--namespace=sluice-system", "get", "pods", "-o", "wide"]);
            say(&[
                "--namespace=sluice-system",
                "logs",
                "--selector=app.kubernetes.io/name=sluice-controller",
                "--tail=40",
            ]);
        }
        let _goes_with_the_cluster =
            self.try_kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
