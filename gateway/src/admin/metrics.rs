//! The Prometheus side of [`Status`]. `docs/metrics.md` describes every name.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::status::{ServicePort, Status};

/// What [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of every name.
const PREFIX: &str = "sluice_gateway";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Numbers = Family<Labels, Gauge<u64, AtomicU64>>;

/// Numbers that are not part of a [`Status`], because only the process knows them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Seconds on the CPU that a pass of the sweep takes.
    pub sweep_seconds: Histogram,
    /// Seconds from waking up to having applied everything.
    pub reconcile_seconds: Histogram,
    /// Passes of the reconciler that ended in an error.
    pub reconcile_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            // 100 us to 3 s, and 1 ms to 30 s.
            sweep_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            reconcile_failures: Counter::default(),
        }
    }
}

/// Everything as OpenMetrics text.
pub fn render(status: &Status, process: &Metrics) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    register_process(&mut registry, status, process);
    register_state(&mut registry, status);
    register_traffic(&mut registry, status);
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn register_process(registry: &mut Registry, status: &Status, process: &Metrics) {
    let build = Numbers::default();
    build.get_or_create(&vec![("version", status.version.clone())]).set(1);
    registry.register("build_info", "Always 1; the version is in the label", build);
    registry.register(
        "sweep_duration_seconds",
        "Time on the CPU that one pass of the sweep through the flow tables takes",
        process.sweep_seconds.clone(),
    );
    registry.register(
        "reconcile_duration_seconds",
        "Time from waking up to having applied configuration, network and maps",
        process.reconcile_seconds.clone(),
    );
    registry.register(
        "reconcile_failures",
        "Passes of the reconciler that could not apply everything",
        process.reconcile_failures.clone(),
    );
}

fn register_state(registry: &mut Registry, status: &Status) {
    number(registry, "ready", "Whether every VIP is served (what /readyz answers)", status.ready.into());
    number(registry, "problems", "Problems listed by `sluice-gateway status`", status.problems.len() as u64);
    if let Some(config) = &status.config {
        number(
            registry,
            "config_last_reload_successful",
            "Whether the configuration file as it is now is in force",
            config.last_reload_successful.into(),
        );
        number(
            registry,
            "config_generation",
            "Edits of the file that this process has taken into force",
            config.generation,
        );
        counter(registry, "config_rejections", "Edits of the file that were refused", config.rejections);
        if let Some(applied) = config.applied_at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        {
            number(
                registry,
                "config_applied_timestamp_seconds",
                "When the configuration in force was applied, seconds since 1970",
                applied.as_secs(),
            );
        }
    }
    let attached = Numbers::default();
    for program in &status.programs {
        let labels = vec![
            ("program", program.name.clone()),
            ("interface", program.interface.clone()),
            ("hook", program.hook.clone()),
            ("mode", program.mode.clone()),
        ];
        attached.get_or_create(&labels).set(program.attached.into());
    }
    registry.register("attached", "Whether the device runs the program, asked from the kernel", attached);
    let mode = Numbers::default();
    if let Some(attach) = &status.attach {
        let labels =
            vec![("wanted", attach.wanted.name().to_owned()), ("mode", attach.mode.name().to_owned())];
        mode.get_or_create(&labels).set(1);
    }
    registry.register(
        "attach_mode",
        "Always 1; by which hook packets from clients are taken is in the label",
        mode,
    );
    let handover = status.handover.as_ref().is_some_and(|handover| handover.used == Some(true));
    number(
        registry,
        "handover",
        "Whether packets to targets are handed to the other end of the cluster interface",
        handover.into(),
    );
    let interfaces = Numbers::default();
    for interface in &status.interfaces {
        let labels = vec![("interface", interface.name.clone()), ("role", interface.role.name().to_owned())];
        interfaces.get_or_create(&labels).set((interface.ifindex.is_some() && interface.up).into());
    }
    registry.register("interface_up", "Whether the interface exists and is up", interfaces);
    let vips = Numbers::default();
    for vip in &status.vips {
        vips.get_or_create(&vec![("vip", vip.address.addr().to_string())]).set(vip.present.into());
    }
    registry.register("vip_present", "Whether the external interface has the VIP", vips);
}

fn register_traffic(registry: &mut Registry, status: &Status) {
    let [packets, bytes, opened] = [(); 3].map(|()| Counters::default());
    let active = Numbers::default();
    for port in &status.services {
        let counters = &port.counters;
        for (direction, seen, size) in [
            ("forward", counters.forward_packets, counters.forward_bytes),
            ("reverse", counters.reverse_packets, counters.reverse_bytes),
        ] {
            let mut labels = service_labels(port);
            labels.push(("direction", direction.to_owned()));
            packets.get_or_create(&labels).inc_by(seen);
            bytes.get_or_create(&labels).inc_by(size);
        }
        let labels = service_labels(port);
        opened.get_or_create(&labels).inc_by(counters.flows_opened);
        active.get_or_create(&labels).set(counters.flows_active);
    }
    registry.register(
        "packets",
        "Packets forwarded; forward is from clients, reverse from targets; a GSO packet counts as its segments",
        packets,
    );
    registry.register("bytes", "IP bytes of those packets", bytes);
    registry.register("flows_opened", "Flows made", opened);
    registry.register("flows_active", "Flows in the table", active);

    let drops = Counters::default();
    for drop in &status.drops {
        drops.get_or_create(&vec![("reason", drop.reason.clone())]).inc_by(drop.packets);
    }
    registry.register("drops", "Packets to or from a VIP that were dropped", drops);

    let [entries, capacity] = [(); 2].map(|()| Numbers::default());
    for table in &status.flow_tables {
        let labels = vec![("family", table.family.clone())];
        entries.get_or_create(&labels).set(table.entries);
        capacity.get_or_create(&labels).set(table.capacity);
    }
    registry.register(
        "flow_table_entries",
        "Flows in the table of a family, as the last pass of the sweep counted them",
        entries,
    );
    registry.register("flow_table_capacity", "Flows that fit into the table of a family", capacity);
    number(registry, "map_memory_bytes", "Kernel memory of all maps", status.map_memory_bytes);

    if let Some(sweep) = &status.sweep {
        counter(registry, "sweep_passes", "Passes of the sweep through the flow tables", sweep.passes);
        counter(registry, "sweep_deleted", "Entries that the sweep has deleted", sweep.deleted);
    }
}

fn service_labels(port: &ServicePort) -> Labels {
    vec![
        ("service", port.service.clone()),
        ("protocol", port.protocol.clone()),
        ("port", port.port.to_string()),
    ]
}

fn number(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<u64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}
