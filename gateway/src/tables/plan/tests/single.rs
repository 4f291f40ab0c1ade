//! One edit at a time.

use super::*;

const VIP: &str = "172.18.0.18";

fn seed() -> Config {
    let ports = [port(Protocol::Tcp, 80), port(Protocol::Udp, 53)];
    config(vec![service(
        "default/web",
        &["172.18.0.18/16", "fd00::18/64"],
        &["10.109.201.193", "fd01::193"],
        &ports,
    )])
}

fn v4(maps: &Contents) -> &FamilyContents<[u8; 4]> {
    maps.v4.as_ref().unwrap()
}

fn entry(maps: &Contents, port: u16, protocol: Protocol) -> (ServiceEntry, Target<[u8; 4]>) {
    let (entry, targets) = served(v4(maps), &key4(VIP, port, protocol)).unwrap();
    (entry, targets[0])
}

#[test]
fn a_fresh_gateway_serves_the_file_and_a_second_plan_is_empty() {
    let mut maps = empty();
    let mut file = seed();
    file.services[0].vips[0].gateway = Some(ip("172.18.0.1"));
    let first = settle(&mut maps, &file, &network(), &Vacant::default());
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    assert_eq!(maps.config.external_ifindex, 3);
    assert_eq!(maps.config.cluster_mtu, 1400);
    let (web, target) = entry(&maps, 80, Protocol::Tcp);
    assert_eq!((web.target_count, web.flags), (1, 0));
    let expected = Target {
        address: [10, 109, 201, 193],
        snat: [10, 16, 0, 5],
        vip: [172, 18, 0, 18],
        vip_mask: [255, 255, 0, 0],
        cluster_next_hop: [10, 16, 0, 1],
        external_next_hop: [172, 18, 0, 1],
        port: 80,
        vip_port: 80,
        protocol: 6,
        state: TARGET_ACTIVE,
        pad: 0,
        service: web.id,
        generation: 1,
    };
    assert_eq!(target, expected);
    let (web6, _) = served(maps.v6.as_ref().unwrap(), &key6("fd00::18", 80, Protocol::Tcp)).unwrap();
    assert_eq!(web6.id, web.id, "both families share the id");
    assert_ne!(entry(&maps, 53, Protocol::Udp).0.id, web.id);
    assert_eq!(first.names[&web.id].to_string(), "default/web:80/tcp");

    let second = settle(&mut maps, &file, &network(), &Vacant::default());
    assert_eq!(second.steps, []);
    assert!(!second.sweep);
}

#[test]
fn a_changed_target_gets_a_new_slot_before_the_entry_switches_and_the_old_one_drains() {
    let mut maps = empty();
    let mut file = seed();
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (before, _) = entry(&maps, 80, Protocol::Tcp);
    file.services[0].ports[0].target_port = 8080;
    let edit = settle(&mut maps, &file, &network(), &Vacant::default());
    let (after, target) = entry(&maps, 80, Protocol::Tcp);
    assert_eq!((after.id, after.generation), (before.id, before.generation + 1));
    assert_ne!(after.first_target, before.first_target);
    assert_eq!(target.port, 8080);
    assert_eq!(v4(&maps).targets[&before.first_target].state, TARGET_DRAINING);
    assert!(edit.sweep);
    let kinds: Vec<&str> = edit
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::V4(FamilyStep::PutTarget(_, target)) if target.state == TARGET_ACTIVE => Some("new"),
            Step::V4(FamilyStep::PutTarget(..)) => Some("drain"),
            Step::V4(FamilyStep::PutService(..)) => Some("switch"),
            Step::V4(_) => Some("other"),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, ["new", "switch", "drain"]);

    file.services[0].ports[0].target_port = 80;
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (back, _) = entry(&maps, 80, Protocol::Tcp);
    assert_eq!(back.first_target, before.first_target, "the identical slot was still draining");
}

#[test]
fn the_way_to_next_hops_is_edited_in_place_but_a_new_source_address_is_not() {
    let mut maps = empty();
    let mut file = seed();
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (before, _) = entry(&maps, 80, Protocol::Tcp);
    file.services[0].vips[0] = Vip { address: net("172.18.0.18/24"), gateway: Some(ip("172.18.0.254")) };
    let mut network = network();
    network.cluster_gateways[0] = ip("10.16.0.2");
    let edit = settle(&mut maps, &file, &network, &Vacant::default());
    let (after, target) = entry(&maps, 80, Protocol::Tcp);
    assert_eq!(after, before, "the entry itself does not change");
    assert!(!edit.sweep);
    assert_eq!(
        (target.vip_mask, target.external_next_hop, target.cluster_next_hop, target.generation),
        ([255, 255, 255, 0], [172, 18, 0, 254], [10, 16, 0, 2], 1)
    );

    file.services[0].snat = vec![ip("10.16.0.99")];
    settle(&mut maps, &file, &network, &Vacant::default());
    let (moved, target) = entry(&maps, 80, Protocol::Tcp);
    assert_ne!(moved.first_target, before.first_target);
    assert_eq!(target.snat, [10, 16, 0, 99]);
    assert_eq!(v4(&maps).targets[&before.first_target].state, TARGET_DRAINING);
}

#[test]
fn a_removed_port_stops_first_and_rests_until_a_pass_found_no_flow() {
    let mut maps = empty();
    let mut file = seed();
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (web, _) = entry(&maps, 80, Protocol::Tcp);
    let udp = file.services[0].ports.pop().unwrap();
    let (dns, _) = entry(&maps, 53, Protocol::Udp);
    let removal = settle(&mut maps, &file, &network(), &Vacant::default());
    let first = removal.steps.first();
    assert_eq!(first, Some(&Step::V4(FamilyStep::DeleteService(key4(VIP, 53, Protocol::Udp)))));
    assert!(removal.sweep);
    assert_eq!(entry(&maps, 80, Protocol::Tcp).0, web);
    assert_eq!(v4(&maps).targets[&dns.first_target].state, TARGET_REMOVED);

    // Somebody else gets neither its slot nor its id.
    file.services.push(service(
        "default/other",
        &["172.18.0.19/16"],
        &["10.109.0.1"],
        &[port(Protocol::Udp, 53)],
    ));
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (other, _) = served(v4(&maps), &key4("172.18.0.19", 53, Protocol::Udp)).unwrap();
    assert_ne!(other.first_target, dns.first_target);
    assert_ne!(other.id, dns.id);

    // A pass that began before the slot was used anew proves nothing.
    let stale = Vacant { v4: BTreeMap::from([(dns.first_target, 0)]), ..Vacant::default() };
    assert_eq!(settle(&mut maps, &file, &network(), &stale).steps, []);
    let vacant =
        Vacant { v4: BTreeMap::from([(dns.first_target, 1)]), v6: BTreeMap::from([(dns.first_target, 1)]) };
    settle(&mut maps, &file, &network(), &vacant);
    assert_eq!(v4(&maps).targets[&dns.first_target].state, TARGET_UNSET);
    file.services.push(service("default/third", &["172.18.0.20/16"], &["10.109.0.2"], &[udp]));
    let plan = settle(&mut maps, &file, &network(), &Vacant::default());
    let (third, targets) = served(v4(&maps), &key4("172.18.0.20", 53, Protocol::Udp)).unwrap();
    assert_eq!((third.id, third.first_target, targets[0].generation), (dns.id, dns.first_target, 2));
    assert!(plan.steps.contains(&Step::ResetStats(dns.id)));
}

#[test]
fn ranges_are_there_before_they_are_asked_for_and_until_nobody_asks() {
    let mut maps = empty();
    let mut file = seed();
    settle(&mut maps, &file, &network(), &Vacant::default());
    file.services[0].source_ranges =
        vec![net("10.0.0.0/8"), net("10.1.0.0/16"), net("192.0.2.1/32"), net("10.0.0.0/8")];
    let close = settle(&mut maps, &file, &network(), &Vacant::default());
    let at = |plan: &Plan, what: fn(&FamilyStep<[u8; 4]>) -> bool| -> Vec<usize> {
        let hits =
            plan.steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::V4(step) if what(step)));
        hits.map(|(index, _)| index).collect()
    };
    let puts = at(&close, |step| matches!(step, FamilyStep::PutRange(..)));
    let switches = at(&close, |step| matches!(step, FamilyStep::PutService(..)));
    assert_eq!(puts.len(), 4, "two ports, two prefixes that do not overlap");
    assert!(puts.last() < switches.first());
    assert!(close.sweep, "clients that were let in before may have to go");
    // The v6 side of a service with IPv4 ranges only admits nobody.
    let (web6, _) = served(maps.v6.as_ref().unwrap(), &key6("fd00::18", 80, Protocol::Tcp)).unwrap();
    assert_eq!(web6.flags, SERVICE_HAS_RANGES);
    assert_eq!(close.policy.v6[&web6.id], []);

    file.services[0].source_ranges = vec![net("192.0.2.0/24")];
    let narrower = settle(&mut maps, &file, &network(), &Vacant::default());
    assert!(narrower.sweep);
    assert!(at(&narrower, |step| matches!(step, FamilyStep::PutService(..))).is_empty());

    file.services[0].source_ranges.clear();
    let open = settle(&mut maps, &file, &network(), &Vacant::default());
    let deletes = at(&open, |step| matches!(step, FamilyStep::DeleteRange(..)));
    assert!(at(&open, |step| matches!(step, FamilyStep::PutService(..))).last() < deletes.first());
    assert!(!open.sweep);
    assert!(v4(&maps).ranges.is_empty());
}

#[test]
fn several_targets_stand_side_by_side() {
    let mut maps = empty();
    let mut file = seed();
    file.services[0].targets = vec![ip("10.1.0.1"), ip("10.1.0.2"), ip("10.1.0.3")];
    let plan = settle(&mut maps, &file, &network(), &Vacant::default());
    let (_, targets) = served(v4(&maps), &key4(VIP, 80, Protocol::Tcp)).unwrap();
    assert_eq!(targets.iter().map(|target| target.address[3]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(plan.problems, [Problem::NoTarget { vip: ip("fd00::18") }]);
    let (web6, _) = served(maps.v6.as_ref().unwrap(), &key6("fd00::18", 80, Protocol::Tcp)).unwrap();
    assert_eq!((web6.first_target, web6.target_count), (0, 0));
}

#[test]
fn full_tables_refuse_new_connections_and_say_so() {
    let mut maps = empty();
    let mut file = seed();
    settle(&mut maps, &file, &network(), &Vacant::default());
    let (web, target) = entry(&maps, 80, Protocol::Tcp);
    let resting = Target { vip: [9, 9, 9, 9], state: TARGET_DRAINING, ..target };
    let targets = &mut maps.v4.as_mut().unwrap().targets;
    for slot in 1..sluice_gateway_ebpf::maps::MAX_TARGETS as u16 {
        targets.entry(slot).or_insert(resting);
    }
    file.services[0].ports[0].target_port = 8080;
    let plan = settle(&mut maps, &file, &network(), &Vacant::default());
    assert!(
        matches!(&plan.problems[..], [Problem::TargetsFull { resting: 16_382, .. }]),
        "{:?}",
        plan.problems
    );
    let (full, _) = served(v4(&maps), &key4(VIP, 80, Protocol::Tcp)).unwrap();
    assert_eq!((full.target_count, full.id), (0, web.id));
    assert_eq!(v4(&maps).targets[&web.first_target].state, TARGET_DRAINING, "its flows may finish");
    let vacant = Vacant { v4: BTreeMap::from([(9, 1)]), ..Vacant::default() };
    settle(&mut maps, &file, &network(), &vacant);
    let (served_again, targets) = served(v4(&maps), &key4(VIP, 80, Protocol::Tcp)).unwrap();
    assert_eq!((served_again.first_target, targets[0].port), (9, 8080));
}
