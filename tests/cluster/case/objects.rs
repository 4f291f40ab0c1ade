//! What cases create: networks, Subnets, Services, backends.

use serde_json::{Value, json};
use sluice_cluster::{addresses::EXTERNAL_DEVICE, images::AGNHOST};

use super::Case;

/// The annotation that makes a Service Sluice's.
const PROVIDER: &str = "ovn.kubernetes.io/attachmentprovider";

impl Case<'_> {
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
}

/// Puts the fields of `more` into an object.
fn merge(object: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
}
