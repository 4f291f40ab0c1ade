//! Other versions of the programs and of the maps' layout, and other ways of attaching.

use std::net::UdpSocket;
use std::thread;

use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use sluice_gateway_ebpf::maps::SCHEMA_VERSION;

use super::*;

#[test]
fn pins_of_another_schema_are_taken_over_and_removed() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let new = Pod::new(&bpffs, "schema", hook)?;
        let old = Pod {
            netns: Netns::new("unused")?,
            pins: new.pins.clone().with_schema(SCHEMA_VERSION + 1),
            hook,
        };
        let load_old = |pod: &Pod| -> Result<DataPath> {
            let options = LoadOptions {
                pins: old.pins.clone(),
                families: BOTH,
                max_flows: 1024,
                objects: Objects::EMBEDDED,
                hook: Some(hook),
            };
            pod.netns.run(|| Ok(DataPath::load(options)?))
        };
        new.attach(&load_old(&new)?)?;
        let maps = old.map_ids(BOTH)?;

        let data_path = new.load(BOTH)?;
        assert!(old.pins.dir().exists(), "the old version serves until the new one is attached");
        let attached = new.attach(&data_path)?;
        assert_eq!((attached.attached, attached.updated), (0, 6), "{hook:?}: swapped in place");
        new.attached_ids(BOTH)?;
        let folder = old.pins.dir();
        assert!(!folder.exists() && !folder.parent().context("the schema's folder")?.exists(), "{hook:?}");
        maps_are_gone(&maps)?;
    }
    Ok(())
}

#[test]
fn another_hook_takes_the_place_of_the_former() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let tcx = Pod::new(&bpffs, "hooks", Hook::Tcx)?;
    tcx.start(BOTH)?;
    let maps = tcx.map_ids(BOTH)?;

    let clsact = Pod { hook: Hook::Clsact, ..tcx };
    clsact.start(BOTH)?;
    clsact.attached_ids(BOTH)?;
    assert_eq!(clsact.pinned("link_")?, [""; 0]);
    assert_eq!(tcx_programs(&clsact.netns, "net1", TcAttachType::Ingress)?, [0; 0]);

    let tcx = Pod { hook: Hook::Tcx, ..clsact };
    tcx.start(BOTH)?;
    tcx.attached_ids(BOTH)?;
    assert_eq!(tcx.pinned("clsact_")?, [""; 0]);
    assert!(!tcx.netns.output("tc", &["qdisc", "show", "dev", "net1"])?.contains("clsact"));
    assert_eq!(tcx.map_ids(BOTH)?, maps);
    Ok(())
}

/// Every packet that the device received was seen by exactly one version of the program.
#[test]
fn no_packet_meets_no_program_while_they_are_replaced() -> Result<()> {
    const ROUNDS: usize = 15;
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "gapless", hook)?;
        // The sender has a namespace of its own, and nobody but the sender speaks.
        let sender = Netns::new("sender")?;
        let quiet = "link set dev DEV addrgenmode none\nlink set dev DEV arp off up\n";
        pod.netns.ip(&format!("link set peer1 netns {}", sender.path()))?;
        sender.ip(&format!("{}addr add 192.0.2.2/24 dev peer1\n", quiet.replace("DEV", "peer1")))?;
        let received = |pod: &Pod| -> Result<u64> {
            let text = pod.netns.output("ip", &["-j", "-s", "link", "show", "dev", "net1"])?;
            let links: serde_json::Value = serde_json::from_str(&text)?;
            links[0]["stats64"]["rx"]["packets"].as_u64().context("no counter of received packets")
        };

        pod.start(V4)?;
        let mut versions = vec![SchedClassifier::from_pin(pod.pins.path("forward_v4"))?];
        pod.netns.ip(&quiet.replace("DEV", "net1"))?;
        let before = received(&pod)?;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let sent = thread::scope(|scope| -> Result<u64> {
            let flood = scope.spawn(|| -> Result<u64> {
                sender.run(|| {
                    let socket = UdpSocket::bind("192.0.2.2:0")?;
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        socket.send_to(b"packet", "192.0.2.1:9")?;
                        sent += 1;
                    }
                    Ok(sent)
                })
            });
            let replaced = (0..ROUNDS).try_for_each(|_| {
                pod.start(V4)?;
                versions.push(SchedClassifier::from_pin(pod.pins.path("forward_v4"))?);
                anyhow::Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            let sent = flood.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
            replaced.and(sent)
        })?;
        let counted =
            || -> Result<u64> { versions.iter().map(|version| Ok(version.info()?.run_count())).sum() };
        let seen = until("the last packet arrives", PATIENCE, || {
            Ok(Some(received(&pod)? - before).filter(|n| *n >= sent))
        })?;
        assert!(sent > 1000, "{sent} packets are too few to meet a gap");
        assert_eq!(counted()?, seen, "{hook:?}: of {seen} packets that arrived");
        let used =
            versions.iter().filter(|version| version.info().is_ok_and(|info| info.run_count() > 0)).count();
        assert!(used > ROUNDS / 2, "{hook:?}: only {used} versions saw packets");
    }
    Ok(())
}
