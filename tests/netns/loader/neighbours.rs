//! Other programs on our devices, and other gateways on our node.

use anyhow::{Context as _, Result};
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, TcHandle};
use sluice_gateway_ebpf::maps::SCHEMA_VERSION;

use super::*;

/// A program of somebody else, on `net1` ingress of `pod` for as long as the value lives.
struct Foreign {
    program: SchedClassifier,
    _pins: Bpffs,
}

impl Foreign {
    /// It does not matter what the program does: another copy of ours will do, from pins of its own.
    fn new() -> Result<Self> {
        let pins = Bpffs::new()?;
        let owner = Pod::new(&pins, "foreign", Hook::Tcx)?;
        owner.load(V4)?;
        let program = SchedClassifier::from_pin(owner.pins.path("sweep_v4"))?;
        Ok(Self { program, _pins: pins })
    }

    fn id(&self) -> Result<u32> {
        Ok(self.program.info()?.id())
    }

    fn attach(&mut self, pod: &Pod, direction: TcAttachType, options: TcAttachOptions) -> Result<()> {
        pod.netns.run(|| {
            self.program.attach_with_options("net1", direction, options)?;
            Ok(())
        })
    }
}

#[test]
fn foreign_tcx_programs_stay_and_run_first() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "foreign-tcx", Hook::Tcx)?;
    let mut foreign = Foreign::new()?;
    foreign.attach(&pod, TcAttachType::Ingress, TcAttachOptions::TcxOrder(LinkOrder::default()))?;
    for _ in 0..2 {
        pod.start(V4)?;
        let ours = *pod.attached_ids(V4)?.last().context("forward_v4 comes last")?;
        assert_eq!(tcx_programs(&pod.netns, "net1", TcAttachType::Ingress)?, [foreign.id()?, ours]);
    }
    pod.cleanup()?;
    assert_eq!(tcx_programs(&pod.netns, "net1", TcAttachType::Ingress)?, [foreign.id()?]);
    Ok(())
}

#[test]
fn foreign_filters_and_their_qdisc_stay() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "foreign-tc", Hook::Clsact)?;
    pod.netns.output("tc", &["qdisc", "add", "dev", "eth0", "clsact"])?;
    pod.start(BOTH)?;
    // One with our priority and a handle of its own, one with our handle and a priority of its own.
    let mut foreign = Foreign::new()?;
    let options = NlOptions { priority: 50_000, handle: TcHandle::new(0, 1), classid: None };
    foreign.attach(&pod, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?;
    let options = NlOptions { priority: 7, handle: TcHandle::new(0x51ce, 2), classid: None };
    foreign.attach(&pod, TcAttachType::Egress, TcAttachOptions::Netlink(options))?;
    let filters =
        |pod: &Pod, direction| pod.netns.output("tc", &["filter", "show", "dev", "net1", direction]);

    pod.start(BOTH)?;
    pod.attached_ids(BOTH)?;
    assert!(filters(&pod, "ingress")?.contains(&format!("id {} ", foreign.id()?)));
    pod.cleanup()?;
    let (ingress, egress) = (filters(&pod, "ingress")?, filters(&pod, "egress")?);
    assert!(ingress.contains(&format!("id {} ", foreign.id()?)), "{ingress}");
    assert!(!ingress.contains("forward_v4") && !egress.contains("egress_v4"), "{ingress}{egress}");
    assert!(egress.contains(&format!("id {} ", foreign.id()?)), "{egress}");
    for device in ["net1", "eth0"] {
        let qdiscs = pod.netns.output("tc", &["qdisc", "show", "dev", device])?;
        assert!(qdiscs.contains("clsact"), "{device}: in use by others, or made by others: {qdiscs}");
    }
    Ok(())
}

#[test]
fn a_filter_of_others_in_our_place_is_refused() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "taken", Hook::Clsact)?;
    pod.netns.output("tc", &["qdisc", "add", "dev", "net1", "clsact"])?;
    let mut foreign = Foreign::new()?;
    let options = NlOptions { priority: 50_000, handle: TcHandle::new(0x51ce, 4), classid: None };
    foreign.attach(&pod, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?;
    let error = format!("{:#}", pod.start(V4).map(drop).unwrap_err());
    assert!(error.contains("net1") && error.contains("another owner"), "{error}");
    pod.cleanup()?;
    let filters = pod.netns.output("tc", &["filter", "show", "dev", "net1", "ingress"])?;
    assert!(filters.contains(&format!("id {} ", foreign.id()?)), "{filters}");
    Ok(())
}

#[test]
fn a_link_to_the_same_ifindex_elsewhere_does_not_count() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let first = Pod::new(&bpffs, "moved", Hook::Tcx)?;
    first.start(V4)?;
    // The same gateway in a new namespace, as after its sandbox died; the devices have the same numbers as before.
    let second = Pod::new(&bpffs, "moved", Hook::Tcx)?;
    assert!(second.attachments(V4)?.iter().all(|a| a.program_id.is_none()), "pinned, but not here");
    let attached = {
        let data_path = second.load(V4)?;
        second.attach(&data_path)?
    };
    assert_eq!((attached.attached, attached.updated), (4, 0));
    second.attached_ids(V4)?;
    assert_eq!(
        tcx_programs(&first.netns, "net1", TcAttachType::Ingress)?,
        [0; 0],
        "the old link is detached"
    );
    Ok(())
}

/// Does what a daemon repeats, until it has removed what `done` asks about.
fn no_dead_sibling_is_left(pod: &Pod, done: impl Fn() -> bool) -> Result<()> {
    // The kernel takes namespaces apart one after the other, those of all tests that run beside this one too.
    until("dead siblings are removed", PATIENCE * 5, || {
        bpf::remove_dead_siblings(&pod.pins)?;
        Ok(done().then_some(()))
    })
}

#[test]
fn a_dead_sibling_is_removed_and_a_living_one_kept() -> Result<()> {
    for hook in HOOKS {
        let bpffs = Bpffs::new()?;
        let living = Pod::new(&bpffs, "living", hook)?;
        // Loaded, not attached: it is only starting.
        let starting = Pod::new(&bpffs, "starting", hook)?;
        let dying = Pod::new(&bpffs, "dying", hook)?;
        living.start(V4)?;
        starting.load(V4)?;
        dying.start(BOTH)?;
        let other_schema = Pod::new(&bpffs, "dying-too", hook)?;
        let other_schema = Pod { pins: other_schema.pins.with_schema(SCHEMA_VERSION + 1), ..other_schema };
        other_schema.start(V4)?;
        let maps = [dying.map_ids(BOTH)?, other_schema.map_ids(V4)?].concat();
        let pins = [dying.pins.dir(), other_schema.pins.dir()];
        let programs = living.attached_ids(V4)?;

        drop((dying, other_schema));
        let mine = Pod::new(&bpffs, "mine", hook)?;
        mine.start(V4)?;
        no_dead_sibling_is_left(&mine, || pins.iter().all(|dir| !dir.exists()))?;
        maps_are_gone(&maps)?;
        assert_eq!(living.attached_ids(V4)?, programs);
        starting.map_ids(V4)?;
    }
    Ok(())
}

#[test]
fn a_hundred_namespaces_leak_no_map() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let mut maps = Vec::new();
    for round in 0..100 {
        let pod = Pod::new(&bpffs, &format!("round-{round}"), HOOKS[round % 2])?;
        pod.start(V4)?;
        maps.extend(pod.map_ids(V4)?);
    }
    assert_eq!(maps.len(), 1400);
    let last = Pod::new(&bpffs, "last", Hook::Tcx)?;
    last.start(V4)?;
    no_dead_sibling_is_left(&last, || {
        last.pins.dir().parent().is_some_and(|dir| dir.read_dir().is_ok_and(|dirs| dirs.count() == 1))
    })?;
    maps_are_gone(&maps)?;
    last.cleanup()?;
    assert_eq!(bpffs.contents()?, [""; 0]);
    Ok(())
}

/// A pinned link of the test's own: what is not in our folder is not ours.
#[test]
fn pins_beside_our_folders_stay() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let pod = Pod::new(&bpffs, "beside", Hook::Tcx)?;
    let mut foreign = Foreign::new()?;
    let pin = bpffs.0.join("link_external_ingress_v4");
    pod.netns.run(|| {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = foreign.program.attach_with_options("net1", TcAttachType::Ingress, options)?;
        let link: FdLink = foreign.program.take_link(link)?.try_into()?;
        link.pin(&pin)?;
        Ok(())
    })?;
    pod.start(V4)?;
    pod.cleanup()?;
    assert_eq!(bpffs.contents()?, ["link_external_ingress_v4"]);
    assert_eq!(tcx_programs(&pod.netns, "net1", TcAttachType::Ingress)?, [foreign.id()?]);
    Ok(())
}
