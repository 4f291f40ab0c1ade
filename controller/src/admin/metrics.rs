//! Numbers for Prometheus. `docs/metrics.md` describes every name.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Prefix of every name, but for those of the process.
const PREFIX: &str = "sluice_controller";

type Labels = Vec<(&'static str, String)>;
/// A number that goes up and down; clones are one number.
pub type Number = Gauge<u64, AtomicU64>;

/// How far a Service of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceState {
    /// Its addresses are published.
    Served,
    /// Something is on its way: an address, a gateway pod.
    Waiting,
    /// It cannot be served as it is.
    Refused,
}

impl ServiceState {
    const ALL: [Self; 3] = [Self::Served, Self::Waiting, Self::Refused];

    const fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// What is counted; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds that a pass over a Service took.
    pub reconcile_seconds: Histogram,
    /// Passes that ended in an error and will be made again.
    pub reconcile_errors: Counter,
    /// Services that wait for a pass.
    pub queue_depth: Number,
    /// Whether this process leads.
    pub leader: Number,
    /// Whether Kube-OVN's own load balancer is on.
    pub kube_ovn_lb_svc_enabled: Number,
    writes: Family<Labels, Counter>,
    services: Family<Labels, Number>,
    reservations: Family<Labels, Number>,
    resident: Number,
    states: Arc<Mutex<HashMap<String, ServiceState>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            // 1 ms to 30 s.
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            reconcile_errors: Counter::default(),
            queue_depth: Number::default(),
            leader: Number::default(),
            kube_ovn_lb_svc_enabled: Number::default(),
            writes: Family::default(),
            services: Family::default(),
            reservations: Family::default(),
            resident: Number::default(),
            states: Arc::default(),
        }
    }
}

impl Metrics {
    /// Counts a write to the API server: `verb` and `resource` as RBAC calls them, and what came of it.
    pub fn wrote(&self, verb: &'static str, resource: &str, result: &'static str) {
        let labels =
            vec![("verb", verb.to_owned()), ("resource", resource.to_owned()), ("result", result.to_owned())];
        self.writes.get_or_create(&labels).inc();
    }

    /// How far the Service `key` (`<namespace>/<name>`) has come; `None`: it is not ours any more.
    pub fn service(&self, key: &str, state: Option<ServiceState>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Some(state) => states.insert(key.to_owned(), state),
            None => states.remove(key),
        };
    }

    /// How many addresses are reserved, for each provider.
    pub fn reservations(&self, by_provider: impl IntoIterator<Item = (String, u64)>) {
        self.reservations.clear();
        for (provider, count) in by_provider {
            self.reservations.get_or_create(&vec![("provider", provider)]).set(count);
        }
    }

    /// Everything, registered under its name. What is registered goes on counting.
    pub(super) fn registry(&self) -> Registry {
        let mut process = Registry::default();
        process.register(
            "process_resident_memory_bytes",
            "Memory of this process that is in RAM",
            self.resident.clone(),
        );
        let registry = process.sub_registry_with_prefix(PREFIX);
        let build = Family::<Labels, Number>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build_info", "Always 1; the version is in the label", build);
        registry.register("leader", "Whether this controller leads, and so writes", self.leader.clone());
        registry.register(
            "kube_ovn_lb_svc_enabled",
            "Whether Kube-OVN's own load balancer is on, and Sluice therefore changes nothing",
            self.kube_ovn_lb_svc_enabled.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Time that a pass over a Service takes",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Passes over a Service that failed and are made again",
            self.reconcile_errors.clone(),
        );
        registry.register("queue_depth", "Services that wait for a pass", self.queue_depth.clone());
        registry.register(
            "writes",
            "Writes to the API server, save those of the leader's lease",
            self.writes.clone(),
        );
        registry.register(
            "services",
            "Services of this controller, by how far they have come",
            self.services.clone(),
        );
        registry.register(
            "reservations",
            "Addresses that Sluice has reserved, by provider",
            self.reservations.clone(),
        );
        process
    }

    /// Everything as OpenMetrics text, from the `registry` that [`Self::registry`] has made.
    pub(super) fn render(&self, registry: &Registry) -> Result<String, std::fmt::Error> {
        for state in ServiceState::ALL {
            let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
            let count = states.values().filter(|other| **other == state).count();
            self.services.get_or_create(&vec![("state", state.name().to_owned())]).set(count as u64);
        }
        if let Some(resident) = resident_bytes() {
            self.resident.set(resident);
        }
        let mut out = String::new();
        text::encode(&mut out, registry)?;
        Ok(out)
    }
}

/// Memory of this process that is in RAM, bytes; `None` where the kernel does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kibibytes.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_and_documented() {
        let metrics = Metrics::default();
        let registry = metrics.registry();
        metrics.clone().wrote("create", "ipreservations", "ok");
        metrics.service("default/web", Some(ServiceState::Waiting));
        metrics.service("default/web", Some(ServiceState::Served));
        metrics.service("default/old", Some(ServiceState::Refused));
        metrics.service("default/old", None);
        metrics.reservations([("gone.default".to_owned(), 3)]);
        metrics.reservations([("external.default".to_owned(), 2)]);
        metrics.leader.set(1);
        let text = metrics.render(&registry).unwrap();
        for line in [
            r#"sluice_controller_writes_total{verb="create",resource="ipreservations",result="ok"} 1"#,
            r#"sluice_controller_services{state="served"} 1"#,
            r#"sluice_controller_services{state="waiting"} 0"#,
            r#"sluice_controller_services{state="refused"} 0"#,
            r#"sluice_controller_reservations{provider="external.default"} 2"#,
            "sluice_controller_leader 1",
            "sluice_controller_reconcile_errors_total 0",
        ] {
            assert!(text.lines().any(|have| have == line), "missing {line} in\n{text}");
        }
        assert!(!text.contains("gone.default"), "{text}");

        let documentation = include_str!("../../../docs/metrics.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            let mentioned =
                ["", "_total"].iter().any(|end| documentation.contains(&format!("`{name}{end}`")));
            assert!(mentioned, "docs/metrics.md does not mention {name}");
        }
    }

    #[test]
    fn memory_is_that_of_this_process() {
        let before = resident_bytes().unwrap();
        let ballast = vec![7u8; 64 << 20];
        let grown = resident_bytes().unwrap().saturating_sub(before);
        assert!(grown > 32 << 20, "{grown} bytes more after {} more", ballast.len());
    }
}
