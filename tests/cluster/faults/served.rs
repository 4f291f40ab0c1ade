//! A Service under load.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_cluster::{Machine, node::CONTAINERD};

use super::load::{ECHO, Load, WEB};
use crate::case::{Case, within};

/// How soon a gateway has to serve again whose pod, or whose node's power, was gone. It takes seconds; the rest is for a busy machine.
pub const BACK: Duration = Duration::from_secs(60);

/// How long an edit may take to arrive: after an outage of the API server, the kubelet waits for up to a minute until it asks for its pods again, and then for their
/// files.
const EDITED: Duration = Duration::from_secs(240);

/// A Service that is served, with backends.
pub struct Served<'c> {
    case: &'c Case<'c>,
    name: &'static str,
    /// Its address.
    pub address: String,
}

impl<'c> Served<'c> {
    /// Makes it and waits until it is; the case has backends. They count as there even while Kubernetes thinks that they are not ready, as it does of all pods
    /// after an outage of its own: what is lost is then lost by the gateway. `selector` names the nodes that its gateway may run on, as the annotation does.
    pub fn start(case: &'c Case<'c>, name: &'static str, selector: &str) -> Self {
        let mut service =
            case.service(name, &json!({ "ports": ports(None), "publishNotReadyAddresses": true }));
        service["metadata"]["annotations"]["sluice.io/node-selector"] = json!(selector);
        case.apply(&service);
        let [address] = &case.published(name)[..] else { panic!("one address") };
        Self { case, name, address: address.clone() }
    }

    /// One that was started before.
    pub const fn again(case: &'c Case<'c>, name: &'static str, address: String) -> Self {
        Self { case, name, address }
    }

    /// Puts it under load, from the client; and the same backends from the first node.
    pub fn load(&self) -> Load {
        let cluster = self.case.cluster;
        let service = self.case.find(&format!("service/{}", self.name)).unwrap();
        let control = Load::start(
            cluster.node(1).unwrap().network().unwrap(),
            service["spec"]["clusterIP"].as_str().unwrap(),
        );
        Load::start(cluster.client.network().unwrap(), &self.address).with_control(control)
    }

    /// Its gateway pod, once one is ready that is not `old` (a UID).
    pub fn ready_pod(&self, old: Option<&str>) -> Value {
        self.case.eventually("a gateway is ready", || {
            self.case.gateway_pods(self.name).into_iter().find(|pod| {
                pod["status"]["containerStatuses"][0]["ready"] == true
                    && pod["metadata"]["uid"].as_str() != old
            })
        })
    }

    /// Adds a port and waits until it is served: API server, controller, kubelet and gateway all do their work, and nothing has been withdrawn.
    pub fn assert_edits_arrive(&self, port: u16) {
        self.case
            .patch(&format!("service/{}", self.name), &json!({ "spec": { "ports": ports(Some(port)) } }));
        within(EDITED, "another port is served", || {
            self.case.hostname(&format!("{}:{port}", self.address)).ok()
        });
        assert_eq!(self.case.addresses(self.name), [self.address.as_str()]);
        assert_eq!(self.case.events(self.name, "Withdrawn"), [""; 0]);
    }
}

/// The ports that the load uses, and perhaps one more.
fn ports(more: Option<u16>) -> Value {
    let mut ports = vec![
        json!({ "name": "web", "port": WEB, "targetPort": 8080 }),
        json!({ "name": "echo", "port": ECHO, "targetPort": 8081, "protocol": "UDP" }),
    ];
    ports.extend(more.map(|port| json!({ "name": "more", "port": port, "targetPort": 8080 })));
    Value::from(ports)
}

/// Sends a signal to the process of a pod's only container.
pub fn signal_container(case: &Case, pod: &Value, signal: &str) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("containerd://");
    ctr(machine(case, pod), &["tasks", "kill", "--signal", signal, id]);
}

/// The node that a pod runs on.
fn machine<'c>(case: &'c Case, pod: &Value) -> &'c Machine {
    let name = pod["spec"]["nodeName"].as_str().unwrap();
    case.cluster.machines().find(|machine| machine.name() == name).unwrap()
}

/// containerd's own client, for Kubernetes' containers.
pub fn ctr(node: &Machine, arguments: &[&str]) {
    let mut command = Command::new("ctr");
    command.args(["--address", CONTAINERD, "--namespace", "k8s.io"]).args(arguments);
    node.run(command).unwrap();
}
