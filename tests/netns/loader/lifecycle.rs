//! Load, attach, restart, change, clean up.

use anyhow::Result;
use aya::programs::TcAttachType;
use sluice_gateway::bpf::Maps;
use sluice_gateway_ebpf::maps::{Config, Service, ServiceKey};

use super::*;

const KEY: ServiceKey<[u8; 4]> = ServiceKey { vip: [192, 0, 2, 1], port: 80, protocol: 6, pad: 0 };

#[test]
fn a_restart_reuses_maps_with_their_contents() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "restart", hook)?;
        let service = Service { id: 7, target_count: 1, ..Service::default() };
        {
            let mut first = pod.load(BOTH)?;
            first.maps.v4.as_mut().unwrap().services.insert(KEY, service, 0)?;
            first.maps.shared.config.set(0, Config { external_mtu: 1500, ..Config::default() }, 0)?;
            pod.attach(&first)?;
        }
        let (maps, programs) = (pod.map_ids(BOTH)?, pod.attached_ids(BOTH)?);
        assert_eq!((maps.len(), programs.len()), (22, 6), "{hook:?}");

        let second = pod.start(BOTH)?;
        assert_eq!(pod.map_ids(BOTH)?, maps, "{hook:?}");
        assert_eq!(second.maps.v4.as_ref().unwrap().services.get(&KEY, 0)?, service);
        // Another process, such as the command line, sees the same.
        let seen = Maps::open_pinned(&pod.pins.dir())?;
        assert_eq!(seen.shared.config.get(&0, 0)?.external_mtu, 1500);
        assert!(seen.v4.is_some() && seen.v6.is_some());
        let replaced = pod.attached_ids(BOTH)?;
        assert!(
            replaced.iter().all(|id| !programs.contains(id)),
            "{hook:?}: {replaced:?} after {programs:?}"
        );
    }
    Ok(())
}

#[test]
fn both_families_share_the_shared_maps() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "shared", Hook::Tcx)?;
    pod.start(BOTH)?;
    let maps_of = |program: &str| -> Result<Vec<u32>> {
        Ok(ProgramInfo::from_pin(pod.pins.path(program))?.map_ids()?.unwrap_or_default())
    };
    let config = MapInfo::from_pin(pod.pins.path("config"))?.id();
    for program in ["forward_v4", "forward_v6"] {
        assert!(maps_of(program)?.contains(&config), "{program} has another config map");
    }
    Ok(())
}

#[test]
fn a_second_attach_changes_nothing() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "again", hook)?;
        let data_path = pod.load(BOTH)?;
        assert_eq!(pod.attach(&data_path)?, Attached { attached: 6, ..Attached::default() }, "{hook:?}");
        let ids = pod.attached_ids(BOTH)?;
        assert_eq!(pod.attach(&data_path)?, Attached::default(), "{hook:?}");
        assert_eq!(pod.attached_ids(BOTH)?, ids);
    }
    Ok(())
}

#[test]
fn the_pinned_link_is_updated_in_place() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "in-place", Hook::Tcx)?;
    let link = || -> Result<(u32, u32)> {
        let link = aya::programs::links::PinnedLink::from_pin(pod.pins.path("link_external_ingress_v4"))?;
        let info = aya::programs::links::FdLink::from(link).info()?;
        Ok((info.id(), info.program_id()))
    };
    pod.start(V4)?;
    let (link_before, program_before) = link()?;
    pod.start(V4)?;
    let (link_after, program_after) = link()?;
    assert_eq!(link_before, link_after);
    assert_ne!(program_before, program_after);
    assert_eq!(tcx_programs(&pod.netns, "net1", TcAttachType::Ingress)?, [program_after]);
    Ok(())
}

#[test]
fn only_the_families_in_use_are_loaded_and_they_change_live() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "families", hook)?;
        let mut data_path = pod.start(V4)?;
        assert!(pod.pins.path("flows_v4").exists() && !pod.pins.path("flows_v6").exists());
        assert!(data_path.maps.v6.is_none());
        let v4 = pod.attached_ids(V4)?;

        pod.netns.run(|| Ok(data_path.set_families(BOTH, 2048)?))?;
        assert!(data_path.maps.v6.is_some());
        assert!(pod.attached_ids(V6).is_err(), "attached before the caller could fill the maps");
        pod.attach(&data_path)?;
        assert_eq!(pod.attached_ids(BOTH)?[..4], v4, "{hook:?}: IPv4 was touched");
        assert_eq!(MapInfo::from_pin(pod.pins.path("flows_v6"))?.max_entries(), 2048);
        let gone = pod.map_ids(V4)?;

        pod.netns.run(|| Ok(data_path.set_families(V6, 2048)?))?;
        pod.attach(&data_path)?;
        pod.attached_ids(V6)?;
        assert!(pod.attachments(V4)?.iter().all(|a| a.program_id.is_none()), "{hook:?}");
        assert!(
            !pod.pins.dir().read_dir()?.any(|pin| pin
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with("_v4"))
        );
        let shared = pod.map_ids(Families::default())?;
        maps_are_gone(&gone.into_iter().filter(|id| !shared.contains(id)).collect::<Vec<_>>())?;
    }
    Ok(())
}

#[test]
fn a_family_dropped_while_the_loader_was_away_is_removed() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "dropped", Hook::Tcx)?;
    pod.start(BOTH)?;
    pod.start(V4)?;
    assert!(pod.attachments(V6)?.iter().all(|a| a.program_id.is_none()));
    assert!(!pod.pins.path("flows_v6").exists());
    pod.attached_ids(V4)?;
    Ok(())
}

#[test]
fn a_changed_size_keeps_the_flows_until_the_gateway_is_made_anew() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "size", Hook::Tcx)?;
    let entries =
        |pod: &Pod| -> Result<u32> { Ok(MapInfo::from_pin(pod.pins.path("flows_v4"))?.max_entries()) };
    let data_path = pod.load_sized(V4, 1000)?;
    assert_eq!(entries(&pod)?, 1024, "rounded up to a power of two");
    assert_eq!(data_path.kept_sizes(1000)?, []);
    let kept = [("flows_v4".to_owned(), 1024), ("replies_v4".to_owned(), 1024)];
    assert_eq!(data_path.kept_sizes(4096)?, kept);
    let ids = pod.map_ids(V4)?;
    pod.load_sized(V4, 4096)?;
    assert_eq!((entries(&pod)?, pod.map_ids(V4)?), (1024, ids));
    pod.cleanup()?;
    pod.load_sized(V4, 4096)?;
    assert_eq!(entries(&pod)?, 4096);
    Ok(())
}

#[test]
fn a_map_of_another_layout_is_replaced() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "layout", Hook::Tcx)?;
    pod.load(V4)?;
    let kept = MapInfo::from_pin(pod.pins.path("flows_v4"))?.id();
    std::fs::remove_file(pod.pins.path("services_v4"))?;
    aya::maps::HashMap::<_, u64, u64>::create(16, 0)?.pin(pod.pins.path("services_v4"))?;
    let data_path = pod.load(V4)?;
    assert!(data_path.maps.v4.unwrap().services.get(&KEY, 0).is_err(), "empty");
    assert_eq!(MapInfo::from_pin(pod.pins.path("services_v4"))?.key_size(), 8);
    assert_eq!(MapInfo::from_pin(pod.pins.path("flows_v4"))?.id(), kept);
    Ok(())
}

#[test]
fn a_device_that_is_away_is_attached_when_it_comes_back() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "device", hook)?;
        let data_path = pod.start(BOTH)?;
        let ifindex = |pod: &Pod| pod.netns.run(|| Ok(nix::net::if_::if_nametoindex("net1")?));
        let before = ifindex(&pod)?;

        pod.netns.ip("link del net1")?;
        assert_eq!(
            pod.attach(&data_path)?,
            Attached { missing: vec!["net1".to_owned()], ..Attached::default() },
            "{hook:?}"
        );
        let attachments = pod.attachments(BOTH)?;
        assert!(
            attachments.iter().all(|a| a.program_id.is_some() == (a.device == "eth0")),
            "{attachments:?}"
        );

        pod.netns.ip("link add net1 type veth peer name peer1")?;
        assert_ne!(ifindex(&pod)?, before);
        let again = pod.attach(&data_path)?;
        assert_eq!((again.attached, again.updated, again.missing.len()), (3, 0, 0), "{hook:?}");
        pod.attached_ids(BOTH)?;
    }
    Ok(())
}

#[test]
fn cleanup_leaves_nothing() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let pod = Pod::new(&bpffs, "cleanup", hook)?;
        drop(pod.start(BOTH)?);
        let maps = pod.map_ids(BOTH)?;
        assert_eq!(bpffs.contents()?.first().map(String::as_str), Some("sluice"));
        pod.cleanup()?;
        assert_eq!(bpffs.contents()?, [""; 0]);
        assert!(pod.attachments(BOTH)?.iter().all(|a| a.program_id.is_none()), "{hook:?}");
        for device in ["net1", "eth0"] {
            assert!(
                !pod.netns.output("tc", &["qdisc", "show", "dev", device])?.contains("clsact"),
                "{hook:?}"
            );
        }
        if hook == Hook::Tcx {
            assert_eq!(tcx_programs(&pod.netns, "net1", TcAttachType::Ingress)?, [0; 0]);
            assert_eq!(tcx_programs(&pod.netns, "eth0", TcAttachType::Egress)?, [0; 0]);
        }
        maps_are_gone(&maps)?;
        // There is nothing left to do, which is no error.
        pod.cleanup()?;
    }
    Ok(())
}
