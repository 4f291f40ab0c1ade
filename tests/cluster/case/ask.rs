//! What cases ask: the API server, as a user does, and what is served in the external network.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::Case;

/// How long anything that should happen soon may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long a node that was cut off may take to hear what has happened: its kubelet and its kube-proxy each ask the API server again on their own, after 30 to
/// 60 s at the latest (client-go's back-off between two lists), and have the rest for a busy machine.
pub const CAUGHT_UP: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

impl Case<'_> {
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
