//! What happens when, from the end of a node to another gateway that serves.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::Load;
use crate::case::{Case, within};

/// How long all of it may take. Kubernetes' own part is 50 s until it takes a silent node for lost, and 5 s between two looks.
const ALL: Duration = Duration::from_secs(180);

/// Times since the node ended.
pub struct Timeline {
    /// Kubernetes takes the node for lost.
    detected: Duration,
    /// The pod is replaced: there is another one.
    replaced: Duration,
    /// That is ready.
    ready: Duration,
    /// It answers: the first request.
    served: Duration,
}

impl Timeline {
    /// Follows what becomes of a Service whose gateway `old` (a UID) was on `node`, which ended just now.
    pub fn follow(case: &Case, service: &str, node: &str, old: &str, load: &Load) -> Self {
        let ended = Instant::now();
        let other = || case.gateway_pods(service).into_iter().find(|pod| pod["metadata"]["uid"] != old);
        let when =
            |what: &str, holds: &dyn Fn() -> bool| within(ALL, what, || holds().then(|| ended.elapsed()));
        let detected =
            when("the node is taken for lost", &|| !is_ready(&case.find(&format!("node/{node}")).unwrap()));
        let replaced = when("the gateway is replaced", &|| other().is_some());
        let ready = when("the other gateway is ready", &|| other().is_some_and(|pod| is_ready(&pod)));
        let served = within(ALL, "it is served", || load.answered_after(ended + replaced)) - ended;
        Self { detected, replaced, ready, served }
    }

    /// What comes on top of the time that Kubernetes takes to see that a node is lost.
    pub fn after_detection(&self) -> Duration {
        self.served.saturating_sub(self.detected)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { detected, replaced, ready, served } = self;
        write!(
            f,
            "lost after {detected:.1?}, replaced {replaced:.1?}, ready {ready:.1?}, served {served:.1?}"
        )
    }
}

/// The condition of a node or a pod.
fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
