//! What the maps hold, on a real kernel: plans applied, flows swept by the programs, flows and counters read.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::ControlFlow;

use aya::maps::lpm_trie::Key;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sluice_gateway::bpf::{DataPath, Families, LoadOptions, Maps, Objects, Pins};
use sluice_gateway::config::{Config, Gateway, Port, Protocol, Service, Vip};
use sluice_gateway::net::{Interface, Interfaces};
use sluice_gateway::tables::{
    self, Desired, Error, FamilyStep, Names, Step,
    batch::{self, Batch, Cursor},
    counters, flows, monotonic_seconds,
    plan::Plan,
    sweep::Sweeper,
};
use sluice_gateway_ebpf::conntrack::State;
use sluice_gateway_ebpf::maps::{
    Activity, Flow, FlowKey, MAX_SERVICES, RangeKey, Reply as _, ReplyKey, ReplyV4, ServiceKey, ServiceStats,
    TARGET_DRAINING, TARGET_UNSET, Target, flow_check,
};
use sluice_gateway_ebpf::{maps, verdict};
use sluice_tests::wait::{PATIENCE, until};
use tempfile::TempDir;

/// A gateway's maps in a BPF file system and a network namespace that only this thread has: both end with it.
struct Loaded {
    path: DataPath,
    pins: Pins,
    sweeper: Sweeper,
    _bpffs: TempDir,
}

impl Loaded {
    fn new(max_flows: u32) -> Self {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|error| panic!("making namespaces (needs root): {error}"));
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let bpffs = TempDir::new().unwrap();
        mount(Some("bpf"), bpffs.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        let pins = Pins::new(bpffs.path(), "tables".parse().unwrap());
        let path = DataPath::load(LoadOptions {
            pins: pins.clone(),
            families: Families { v4: true, v6: true },
            max_flows,
            objects: Objects::EMBEDDED,
            hook: None,
        })
        .unwrap();
        Self { path, pins, sweeper: Sweeper::default(), _bpffs: bpffs }
    }

    fn maps(&mut self) -> &mut Maps {
        &mut self.path.maps
    }

    fn reconcile(&mut self, config: &Config) -> Plan {
        let desired = Desired::new(config, &interfaces());
        tables::reconcile(&mut self.path.maps, &desired, &mut self.sweeper).unwrap()
    }

    fn pass(&mut self) -> tables::sweep::Report {
        self.sweeper.pass(&self.path.maps).unwrap()
    }

    /// The slot that `key` points at, and the target in it.
    fn target(&self, port: u16, protocol: Protocol) -> (u16, Target<[u8; 4]>) {
        let maps = self.path.maps.v4.as_ref().unwrap();
        let slot = maps.services.get(&key(port, protocol), 0).unwrap().first_target;
        (slot, maps.targets.get(&u32::from(slot), 0).unwrap())
    }

    /// Enters a flow and its reservation as the programs would.
    fn connect(
        &mut self,
        client: [u8; 4],
        client_port: u16,
        port: u16,
        protocol: Protocol,
        state: State,
        idle: u32,
    ) {
        let (slot, target) = self.target(port, protocol);
        let activity = Activity::new(monotonic_seconds() - idle, 1000);
        let key = flow_key(client, client_port, port, protocol);
        let flow = Flow {
            snat_port: client_port,
            target: slot,
            check: flow_check(&key),
            state: state as u8,
            pad: 0,
            activity: activity.0,
        };
        let owner = maps::Owner { client, client_port, target: slot };
        let reply = ReplyV4::new(&owner, activity);
        let v4 = self.path.maps.v4.as_mut().unwrap();
        v4.replies.insert(reply_key(&target, client_port), reply, 0).unwrap();
        v4.flows.insert(key, flow, 0).unwrap();
    }

    fn clients(&self) -> HashSet<([u8; 4], u16)> {
        let flows = batch::read_all(&self.path.maps.v4.as_ref().unwrap().flows).unwrap();
        flows.into_iter().map(|(key, _)| (key.client, key.client_port)).collect()
    }
}

const VIP: [u8; 4] = [172, 18, 0, 18];
const CLIENT: [u8; 4] = [192, 0, 2, 7];

fn key(port: u16, protocol: Protocol) -> ServiceKey<[u8; 4]> {
    ServiceKey { vip: VIP, port, protocol: protocol.number(), pad: 0 }
}

fn flow_key(client: [u8; 4], client_port: u16, vip_port: u16, protocol: Protocol) -> FlowKey<[u8; 4]> {
    FlowKey { client, vip: VIP, client_port, vip_port, protocol: u32::from(protocol.number()) }
}

fn reply_key(target: &Target<[u8; 4]>, snat_port: u16) -> ReplyKey<[u8; 4]> {
    ReplyKey {
        target: target.address,
        snat: target.snat,
        target_port: target.port,
        snat_port,
        protocol: u32::from(target.protocol),
    }
}

fn interfaces() -> Interfaces {
    let interface = |name: &str, index, mtu, addresses: &[&str]| Interface {
        name: name.into(),
        index,
        mtu,
        running: true,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..Interface::default()
    };
    Interfaces {
        external: Some(interface("net1", 3, 1500, &[])),
        cluster: Some(interface("eth0", 2, 1400, &["10.16.0.5/16", "fd00:16::5/64"])),
        cluster_gateways: vec!["10.16.0.1".parse().unwrap(), "fd00:16::1".parse().unwrap()],
        ..Interfaces::default()
    }
}

/// The seed's service, with DNS beside HTTP and both families.
fn seed() -> Config {
    let port = |protocol, port| Port { name: None, protocol, port, target_port: port };
    let vip = |address: &str| Vip { address: address.parse().unwrap(), gateway: None };
    let service = Service {
        name: "default/web".into(),
        vips: vec![vip("172.18.0.18/16"), vip("fd00:18::18/64")],
        snat: vec![],
        targets: vec!["10.109.201.193".parse().unwrap(), "fd00:109::193".parse().unwrap()],
        ports: vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 53)],
        source_ranges: vec![],
    };
    Config { gateway: Gateway::default(), services: vec![service] }
}

#[test]
fn what_is_applied_is_what_another_process_finds() {
    let mut loaded = Loaded::new(1024);
    let mut config = seed();
    config.services[0].source_ranges =
        vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let plan = loaded.reconcile(&config);
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    assert_eq!(loaded.reconcile(&config).steps, [], "a second apply plans nothing");

    let other = Maps::open_pinned(&loaded.pins.dir()).unwrap();
    let desired = Desired::new(&config, &interfaces());
    let again = tables::plan::plan(&tables::contents(&other).unwrap(), &desired, &tables::Vacant::default());
    assert_eq!(again.steps, [], "the numbers are recovered from the maps");
    assert_eq!(again.names, plan.names);

    // The kernel's own longest-prefix match, with the key that the programs use.
    let v4 = other.v4.as_ref().unwrap();
    let id = v4.services.get(&key(80, Protocol::Tcp), 0).unwrap().id;
    let admits = |client: [u8; 4]| {
        v4.ranges.get(&Key::new(64, RangeKey { service: id.to_be_bytes(), client }), 0).is_ok()
    };
    assert!(admits([192, 0, 2, 200]));
    assert!(!admits([192, 0, 3, 1]));
    let (_, target) = loaded.target(80, Protocol::Tcp);
    assert_eq!(
        (target.address, target.snat, target.vip_mask),
        ([10, 109, 201, 193], [10, 16, 0, 5], [255, 255, 0, 0])
    );

    config.services.clear();
    loaded.reconcile(&config);
    let contents = tables::contents(loaded.maps()).unwrap();
    let (v4, v6) = (contents.v4.unwrap(), contents.v6.unwrap());
    assert!(v4.services.is_empty() && v6.services.is_empty());
    assert!(v4.ranges.is_empty() && v6.ranges.is_empty());
}

#[test]
fn a_full_map_is_named_with_what_to_do() {
    let mut loaded = Loaded::new(1024);
    let put =
        |port: u16| Step::V4(FamilyStep::PutService(key(port, Protocol::Tcp), maps::Service::default()));
    let steps: Vec<Step> = (1..=MAX_SERVICES as u16).map(put).collect();
    tables::apply(loaded.maps(), &steps).unwrap();
    let error = tables::apply(loaded.maps(), &[put(9999)]).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("services_v4[172.18.0.18 port 9999/tcp]") && text.contains("4096"), "{text}");
}

#[test]
fn batches_read_each_entry_once_while_others_come_and_go() {
    let mut loaded = Loaded::new(65_536);
    let flow = |n: u32| flow_key(n.to_be_bytes(), 1, 80, Protocol::Tcp);
    let flows = &mut loaded.maps().v4.as_mut().unwrap().flows;
    (0..20_000).for_each(|n| flows.insert(flow(n), Flow::default(), 0).unwrap());
    // Two elements in a bucket do not fit in a batch of one: the buffer grows.
    let mut batch = Batch::new(1);
    let mut cursor = Cursor::default();
    let (mut seen, mut others) = (HashSet::new(), 20_000);
    while cursor != Cursor::End {
        batch.read(flows, &mut cursor).unwrap();
        for (key, _) in batch.entries() {
            let n = u32::from_be_bytes(key.client);
            assert!(n >= 20_000 || seen.insert(n), "{n} was read twice");
        }
        flows.insert(flow(others), Flow::default(), 0).unwrap();
        if others % 2 == 0 {
            flows.remove(&flow(others)).unwrap();
        }
        others += 1;
    }
    assert_eq!(seen.len(), 20_000);
    assert_eq!(batch::count(flows).unwrap(), 20_000 + u64::from(others - 20_000) / 2);
}

#[test]
fn the_programs_delete_what_the_sweep_names_and_nothing_else() {
    let mut loaded = Loaded::new(1024);
    let mut config = seed();
    loaded.reconcile(&config);
    let timeouts = config.gateway.timeouts;
    for (port, state, idle) in [
        (1, State::Established, 100),
        (2, State::SynSent, timeouts.tcp_half_open + 1),
        (3, State::SynSent, timeouts.tcp_half_open - 20),
        (4, State::Reset, timeouts.tcp_closed + 1),
        (5, State::FinClient, timeouts.tcp_fin - 20),
    ] {
        loaded.connect(CLIENT, port, 80, Protocol::Tcp, state, idle);
    }
    loaded.connect(CLIENT, 6, 53, Protocol::Udp, State::UdpStream, timeouts.udp_stream + 1);
    loaded.connect(CLIENT, 7, 53, Protocol::Udp, State::UdpStream, 1);
    // Idle for the client, but the target has just spoken: named, and spared by the program.
    loaded.connect(CLIENT, 8, 53, Protocol::Udp, State::UdpStream, timeouts.udp_stream + 1);
    let (slot, target) = loaded.target(53, Protocol::Udp);
    let owner = maps::Owner { client: CLIENT, client_port: 8, target: slot };
    let fresh = ReplyV4::new(&owner, Activity::new(monotonic_seconds(), 1));
    loaded.maps().v4.as_mut().unwrap().replies.insert(reply_key(&target, 8), fresh, 0).unwrap();

    let report = loaded.pass();
    assert_eq!(loaded.clients(), HashSet::from([1, 3, 5, 7, 8].map(|port| (CLIENT, port))));
    assert_eq!(report.v4.flows, 8);
    assert_eq!(report.v6.flows, 0);
    assert!(report.v4.named >= 4, "{report:?}");
    let web = report.v4.services[&loaded.target(80, Protocol::Tcp).1.service];
    assert_eq!(web.total(), 5);
    assert_eq!(web.iter().find(|(state, _)| *state == State::SynSent), Some((State::SynSent, 2)));

    // The reservations follow after they have rested.
    until("reservations of deleted flows are gone", PATIENCE, || {
        loaded.sweeper.pass(&loaded.path.maps)?;
        let replies = batch::read_all(&loaded.path.maps.v4.as_ref().unwrap().replies)?;
        let ports: HashSet<u16> = replies.iter().map(|(key, _)| key.snat_port).collect();
        Ok((ports == HashSet::from([1, 3, 5, 7, 8])).then_some(()))
    })
    .unwrap();

    // A changed target: datagrams move at once, connections finish.
    config.services[0].ports[0].target_port = 8080;
    config.services[0].ports[1].target_port = 5353;
    assert!(loaded.reconcile(&config).sweep);
    loaded.pass();
    assert_eq!(loaded.clients(), HashSet::from([1, 3, 5].map(|port| (CLIENT, port))));

    // Narrowed ranges end the connections of those outside.
    loaded.connect([198, 51, 100, 1], 9, 80, Protocol::Tcp, State::Established, 0);
    config.services[0].source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    assert!(loaded.reconcile(&config).sweep);
    loaded.pass();
    assert_eq!(loaded.clients(), HashSet::from([([198, 51, 100, 1], 9)]));

    // A removed port ends all.
    config.services[0].ports.clear();
    assert!(loaded.reconcile(&config).sweep);
    loaded.pass();
    assert_eq!(loaded.clients(), HashSet::new());
}

#[test]
fn a_slot_rests_while_a_flow_names_it_and_is_used_anew_after() {
    let mut loaded = Loaded::new(1024);
    let mut config = seed();
    loaded.reconcile(&config);
    let (slot, _) = loaded.target(80, Protocol::Tcp);
    loaded.connect(CLIENT, 1, 80, Protocol::Tcp, State::Established, 0);
    config.services[0].ports[0].target_port = 8080;
    loaded.reconcile(&config);
    let state = |loaded: &Loaded| {
        let targets = &loaded.path.maps.v4.as_ref().unwrap().targets;
        targets.get(&u32::from(slot), 0).unwrap().state
    };
    // The IPv6 slot has no user: once it is free, the passes that prove it have also looked at the IPv4 one.
    until("a slot without flows is free", PATIENCE, || {
        loaded.sweeper.pass(&loaded.path.maps)?;
        let desired = Desired::new(&config, &interfaces());
        tables::reconcile(&mut loaded.path.maps, &desired, &mut loaded.sweeper)?;
        let contents = tables::contents(&loaded.path.maps)?;
        let resting = contents.v6.iter().flat_map(|v6| v6.targets.values()).any(tables::plan::at_rest);
        Ok((!resting).then_some(()))
    })
    .unwrap();
    assert_eq!(state(&loaded), TARGET_DRAINING, "a connection still uses it");
    let v4 = loaded.maps().v4.as_mut().unwrap();
    v4.flows.remove(&flow_key(CLIENT, 1, 80, Protocol::Tcp)).unwrap();
    loaded.pass();
    loaded.reconcile(&config);
    assert_eq!(state(&loaded), TARGET_DRAINING, "a reservation still names it");
    let replies = batch::read_all(&loaded.path.maps.v4.as_ref().unwrap().replies).unwrap();
    for (key, mut reply) in replies {
        // Old enough for the sweep to ask whether it still has a flow.
        reply.activity = Activity::new(monotonic_seconds() - 20, 0).0;
        loaded.maps().v4.as_mut().unwrap().replies.insert(key, reply, 0).unwrap();
    }
    until("the slot is free", PATIENCE, || {
        loaded.sweeper.pass(&loaded.path.maps)?;
        loaded.reconcile(&config);
        Ok((state(&loaded) == TARGET_UNSET).then_some(()))
    })
    .unwrap();
}

#[test]
fn what_was_learnt_from_other_maps_is_forgotten() {
    let mut loaded = Loaded::new(1024);
    let mut config = seed();
    loaded.reconcile(&config);
    config.services[0].ports[0].target_port = 8080;
    loaded.reconcile(&config);
    until("a slot is proven unused", PATIENCE, || {
        loaded.sweeper.pass(&loaded.path.maps)?;
        Ok((!loaded.sweeper.vacant().v4.is_empty()).then_some(()))
    })
    .unwrap();
    let anew = Loaded::new(1024);
    loaded.sweeper.attend(&anew.path.maps).unwrap();
    assert_eq!(*loaded.sweeper.vacant(), tables::Vacant::default());
}

#[test]
fn ticks_complete_a_pass_and_then_rest() {
    let mut loaded = Loaded::new(262_144);
    loaded.reconcile(&seed());
    for n in 0..40_000_u32 {
        let client = [10, 1, (n >> 8) as u8, n as u8];
        loaded.connect(client, 1024 + n as u16, 80, Protocol::Tcp, State::Established, 0);
    }
    let report =
        until("a pass is complete", PATIENCE, || Ok(loaded.sweeper.tick(&loaded.path.maps)?.completed))
            .unwrap();
    assert_eq!((report.v4.flows, report.v4.replies, report.v4.named), (40_000, 40_000, 0));
    let idle = loaded.sweeper.tick(&loaded.path.maps).unwrap();
    assert!(idle.completed.is_none() && idle.wait > std::time::Duration::from_secs(5), "{idle:?}");
    loaded.sweeper.request();
    assert!(loaded.sweeper.tick(&loaded.path.maps).unwrap().wait < std::time::Duration::from_secs(1));
}

#[test]
fn flows_are_read_with_both_directions() {
    let mut loaded = Loaded::new(1024);
    let config = seed();
    loaded.reconcile(&config);
    loaded.connect(CLIENT, 40_000, 80, Protocol::Tcp, State::Established, 30);
    loaded.connect([10, 0, 0, 1], 40_001, 53, Protocol::Udp, State::UdpUnreplied, 0);
    let names = Names::new(&config);
    let read = |filter: &flows::Filter| {
        let mut records = Vec::new();
        let visit = |record| {
            records.push(record);
            ControlFlow::Continue(())
        };
        flows::read(&loaded.path.maps, filter, &names, monotonic_seconds(), visit).unwrap();
        records
    };
    assert_eq!(read(&flows::Filter::default()).len(), 2);
    let records =
        read(&flows::Filter { client: Some("192.0.2.0/24".parse().unwrap()), ..Default::default() });
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record.service.as_deref(), Some("default/web"));
    assert_eq!(record.target.to_string(), "10.109.201.193:80");
    assert_eq!(record.snat.to_string(), "10.16.0.5:40000");
    assert_eq!((record.client_bytes, record.target_bytes), (Some(1000), Some(1000)));
    assert!((30..40).contains(&record.client_idle_seconds), "{record:?}");
    assert_eq!(read(&flows::Filter { service: Some("other".into()), ..Default::default() }), []);

    let tables = counters::flow_tables(&loaded.path.maps, None).unwrap();
    let of =
        |family: &str| tables.iter().find(|table| table.family == family).map(|t| (t.entries, t.capacity));
    assert_eq!((of("ipv4"), of("ipv6")), (Some((2, 1024)), Some((0, 1024))));
}

#[test]
fn counters_are_summed_over_cpus() {
    let mut loaded = Loaded::new(1024);
    let config = seed();
    loaded.reconcile(&config);
    let id = loaded.target(80, Protocol::Tcp).1.service;
    let cpus = aya::util::nr_cpus().unwrap();
    let stats = |cpu: usize| ServiceStats {
        forward_packets: 10 + cpu as u64,
        flows_opened: 3,
        flows_closed: 1,
        ..ServiceStats::default()
    };
    let values = (0..cpus).map(stats).collect::<Vec<_>>();
    loaded.maps().shared.service_stats.set(id, values.try_into().unwrap(), 0).unwrap();
    let dropped = vec![7_u64; cpus].try_into().unwrap();
    loaded.maps().shared.drops.set(verdict::Drop::NoTarget as u32, dropped, 0).unwrap();

    let ports = counters::ports(loaded.maps()).unwrap();
    let web = ports.iter().find(|port| port.id == id).unwrap();
    let n = cpus as u64;
    assert_eq!(web.counters.forward_packets, 10 * n + n * (n - 1) / 2);
    assert_eq!((web.counters.flows_opened, web.counters.flows_active), (3 * n, 2 * n));
    let vips: Vec<IpAddr> = web.vips.iter().map(|vip| vip.ip()).collect();
    assert_eq!(vips, ["172.18.0.18".parse::<IpAddr>().unwrap(), "fd00:18::18".parse().unwrap()]);
    assert_eq!(web.name(&Names::new(&config)).unwrap().to_string(), "default/web:80/tcp");
    let drops = counters::drops(loaded.maps()).unwrap();
    let of = |reason: &str| drops.iter().find(|drop| drop.reason == reason).map(|drop| drop.packets);
    assert_eq!((of("no_target"), of("malformed")), (Some(7 * n), Some(0)));
}
