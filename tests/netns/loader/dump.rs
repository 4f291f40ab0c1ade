//! What `bpftool map dump` makes of the pinned maps: the layouts' own names, for whoever looks at a gateway from outside.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::Key;
use sluice_gateway::bpf::{FamilyMaps, LoaderFamily, map_use};
use sluice_gateway_ebpf::family::{V4, V6};
use sluice_gateway_ebpf::maps::{
    FAMILY_MAPS, Flow, FlowKey, Fragment, FragmentKey, RangeKey, ReplyKey, SHARED_MAPS, Service, ServiceKey,
};

use super::{BOTH, Bpffs, HOOKS, Pod};

/// The fields of each map's keys and values, by the map's name without its family.
fn fields(map: &str) -> &'static [&'static str] {
    match map {
        "services" => {
            &["vip", "port", "protocol", "id", "first_target", "target_count", "flags", "generation"]
        }
        "targets" => &[
            "address",
            "snat",
            "vip",
            "vip_mask",
            "cluster_next_hop",
            "external_next_hop",
            "port",
            "vip_port",
            "protocol",
            "state",
            "service",
            "generation",
        ],
        "flows" => &[
            "client",
            "vip",
            "client_port",
            "vip_port",
            "protocol",
            "snat_port",
            "target",
            "check",
            "state",
            "activity",
        ],
        "replies" => {
            &["target", "snat", "target_port", "snat_port", "protocol", "client", "client_port", "activity"]
        }
        "fragments" => &["source", "destination", "id", "protocol", "client", "target", "created"],
        "ranges" => &["service", "client"],
        "service_stats" => &[
            "forward_packets",
            "forward_bytes",
            "reverse_packets",
            "reverse_bytes",
            "flows_opened",
            "flows_closed",
        ],
        "config" => &[
            "external_ifindex",
            "cluster_ifindex",
            "external_mtu",
            "cluster_mtu",
            "icmp_rate",
            "timeouts",
            "tcp_half_open",
            "udp_stream",
        ],
        "icmp_budget" => &["second", "spent"],
        "hop" | "handover" => &["address", "until", "destination", "source", "external"],
        // One number for each drop reason.
        "drops" => &[],
        other => panic!("the fields of {other} are not listed here"),
    }
}

/// Puts an entry into each map that has none of itself.
fn fill<F>(maps: &mut FamilyMaps<F>) -> Result<()>
where
    F: LoaderFamily,
    F::Reply: Default,
{
    maps.services.insert(ServiceKey::default(), Service::default(), 0)?;
    maps.flows.insert(FlowKey::default(), Flow::default(), 0)?;
    maps.replies.insert(ReplyKey::default(), F::Reply::default(), 0)?;
    maps.fragments.insert(FragmentKey::default(), Fragment::default(), 0)?;
    maps.ranges.insert(&Key::new(32, RangeKey::default()), 1, 0)?;
    Ok(())
}

/// The beginning of what `bpftool map dump` prints: at least one entry of any map.
fn dump(pin: &Path) -> Result<String> {
    let mut child = Command::new("bpftool")
        .args(["map", "dump", "pinned"])
        .arg(pin)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting bpftool")?;
    let mut text = String::new();
    let output = child.stdout.take().context("its output")?;
    let read = output.take(8192).read_to_string(&mut text);
    // It is still printing, if there are many entries.
    child.kill()?;
    child.wait()?;
    read.with_context(|| format!("reading the dump of {}", pin.display()))?;
    Ok(text)
}

#[test]
fn every_map_shows_the_names_of_its_fields() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "dump", HOOKS[0])?;
    let mut data_path = pod.load(BOTH)?;
    fill(data_path.maps.family_mut::<V4>().context("the IPv4 maps")?)?;
    fill(data_path.maps.family_mut::<V6>().context("the IPv6 maps")?)?;
    let maps = map_use(&pod.pins, BOTH)?;
    ensure!(maps.len() == SHARED_MAPS.len() + 2 * FAMILY_MAPS.len(), "{maps:?}");
    // Programs and devices have no fields.
    for map in maps.into_iter().filter(|map| !["xdp_next", "xdp_device"].contains(&map.name.as_str())) {
        let text = dump(&pod.pins.path(&map.name))?;
        let stem = map.name.trim_end_matches("_v4").trim_end_matches("_v6");
        let own: &[&str] = if map.name == "replies_v6" { &["epoch"] } else { &[] };
        for field in [fields(stem), own].concat() {
            ensure!(text.contains(&format!("\"{field}\": ")), "{}: no {field} in\n{text}", map.name);
        }
        ensure!(text.starts_with("[{\n"), "{}: not formatted by its BTF:\n{text}", map.name);
    }
    Ok(())
}
