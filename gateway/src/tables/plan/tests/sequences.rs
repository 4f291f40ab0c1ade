//! Random sequences of configurations, with flows, sweeps and crashes in between.

use super::{super::slots::key_of, *};

/// One configuration edit, and what happens around it.
#[derive(Clone, Debug)]
struct Edit {
    config: Config,
    network: Interfaces,
    /// Steps after which the loader dies, as a share of the plan; 1: it lives.
    alive: f64,
    /// Picks entries and moments for new flows.
    flows: Vec<prop::sample::Index>,
    /// Flows that end of themselves before the next pass.
    ends: Vec<prop::sample::Index>,
    sweep: bool,
}

const CLIENTS: [&str; 4] = ["10.9.0.1", "192.0.2.7", "fd99::1", "2001:db8::7"];

fn pick<T: Clone + std::fmt::Debug + 'static>(from: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(from.to_vec())
}

fn some<T: Clone + std::fmt::Debug + 'static>(from: &[T]) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::sample::subsequence(from.to_vec(), 0..=from.len()).prop_shuffle()
}

fn services() -> impl Strategy<Value = Service> {
    let vips = ["172.18.0.18/16", "172.18.0.18/24", "172.18.0.19/16", "fd00::18/64"].map(vip);
    let routed = Vip { gateway: Some(ip("172.18.0.1")), ..vips[0] };
    let ports = [
        port(Protocol::Tcp, 80),
        port(Protocol::Tcp, 8080),
        port(Protocol::Udp, 80),
        port(Protocol::Sctp, 80),
    ];
    let moved = Port { target_port: 9000, ..ports[0].clone() };
    let ranges = ["10.0.0.0/8", "10.9.0.0/16", "192.0.2.0/24", "0.0.0.0/0", "fd99::/16", "::/0"].map(net);
    (
        pick(&["a", "b", "c"]),
        some(&[vips[0], routed, vips[1], vips[2], vips[3]]),
        some(&["10.1.0.1", "10.1.0.2", "fd01::1"].map(ip)),
        some(&["10.16.0.77"].map(ip)),
        some(&[ports[0].clone(), moved, ports[1].clone(), ports[2].clone(), ports[3].clone()]),
        prop_oneof![2 => Just(vec![]), 1 => some(&ranges)],
    )
        .prop_map(|(name, vips, targets, snat, ports, source_ranges)| Service {
            name: name.into(),
            vips,
            targets,
            snat,
            ports,
            source_ranges,
        })
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = (
        prop::collection::vec(services(), 0..4),
        prop::bool::weighted(0.2),
        prop_oneof![3 => Just(1.0), 1 => 0.0..1.0],
        prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(services, rerouted, alive, flows, ends, sweep)| {
            let mut network = network();
            if rerouted {
                network.cluster_gateways = vec![ip("10.16.0.2")];
                network.cluster.as_mut().unwrap().addresses.truncate(1);
            }
            Edit { config: config(services), network, alive, flows, ends, sweep }
        });
    prop::collection::vec(edit, 1..12)
}

/// A flow and the target it was made with.
#[derive(Clone, Debug)]
struct Flow<A> {
    client: A,
    slot: u16,
    made_with: Target<A>,
}

fn same<A: IpBytes>(a: &Target<A>, b: &Target<A>) -> bool {
    (a.address, a.port, a.snat, a.vip, a.vip_port, a.protocol, a.service)
        == (b.address, b.port, b.snat, b.vip, b.vip_port, b.protocol, b.service)
}

/// What the programs do with a client's first packet.
fn admits<A: IpBytes>(maps: &FamilyContents<A>, entry: &ServiceEntry, client: A) -> bool {
    entry.flags & SERVICE_HAS_RANGES == 0
        || maps.ranges.iter().any(|(id, prefix)| *id == entry.id && prefix.contains(client))
}

/// One family's maps and the flows that the programs have made.
#[derive(Default)]
struct World<A: IpBytes> {
    flows: Vec<Flow<A>>,
}

impl<A: IpBytes> World<A> {
    fn clients() -> impl Iterator<Item = A> {
        CLIENTS.iter().filter_map(|client| A::from_ip(ip(client)))
    }

    /// What must hold after every single step.
    fn check(&self, maps: &FamilyContents<A>) {
        let mut users = HashMap::new();
        for (key, entry) in &maps.services {
            for slot in (entry.first_target..).take(usize::from(entry.target_count)) {
                let target =
                    maps.targets.get(&slot).unwrap_or_else(|| panic!("{key:?} points at unset slot {slot}"));
                assert_eq!(target.state, TARGET_ACTIVE, "{key:?} slot {slot}");
                assert_eq!(key_of(target), *key, "slot {slot} serves somebody else");
                assert_eq!(target.service, entry.id, "slot {slot}");
                assert_eq!(users.insert(slot, key), None, "slot {slot} has two users");
            }
        }
        for flow in &self.flows {
            let target = maps.targets.get(&flow.slot).copied().unwrap_or_default();
            assert_ne!(target.state, TARGET_UNSET, "slot {} freed under a flow", flow.slot);
            assert!(same(&target, &flow.made_with), "slot {} changed under a flow", flow.slot);
        }
    }

    /// Which clients each key admits.
    fn admitted(maps: &FamilyContents<A>) -> HashMap<(ServiceKey<A>, A), bool> {
        let pairs = maps
            .services
            .iter()
            .flat_map(|(key, entry)| Self::clients().map(move |client| (key, entry, client)));
        pairs.map(|(key, entry, client)| ((*key, client), admits(maps, entry, client))).collect()
    }

    fn connect(&mut self, maps: &FamilyContents<A>, pick: &prop::sample::Index) {
        let mut entries: Vec<_> = maps.services.values().filter(|entry| entry.target_count > 0).collect();
        entries.sort_by_key(|entry| entry.first_target);
        if entries.is_empty() {
            return;
        }
        let entry = entries[pick.index(entries.len())];
        for client in Self::clients().filter(|client| admits(maps, entry, *client)) {
            let made_with = maps.targets[&entry.first_target];
            self.flows.push(Flow { client, slot: entry.first_target, made_with });
        }
    }

    /// A complete pass: ends the flows that have no right to be, and returns the slots at rest that none names.
    fn sweep(&mut self, maps: &FamilyContents<A>, admitted: &Admitted<A>) -> BTreeMap<u16, u32> {
        self.flows.retain(|flow| {
            let target = &maps.targets[&flow.slot];
            let alive =
                target.state == TARGET_ACTIVE || target.state == TARGET_DRAINING && target.protocol != 17;
            let ranges = admitted.get(&target.service);
            alive && ranges.is_none_or(|ranges| ranges.iter().any(|prefix| prefix.contains(flow.client)))
        });
        let resting = maps.targets.iter().filter(|(_, target)| at_rest(target));
        resting
            .filter(|(slot, _)| self.flows.iter().all(|flow| flow.slot != **slot))
            .map(|(slot, target)| (*slot, target.generation))
            .collect()
    }
}

/// After the last step the maps serve exactly what is desired.
fn check_served<A: IpBytes>(
    maps: &FamilyContents<A>,
    desired: &Desired,
    side: impl Fn(&DesiredPort) -> &Side<A>,
) {
    let mut entries = 0;
    let mut ids = HashMap::new();
    for port in &desired.ports {
        for wanted in &side(port).entries {
            entries += 1;
            let (entry, targets) =
                served(maps, &wanted.key).unwrap_or_else(|| panic!("{} is not served", port.name));
            let targets: Vec<_> = targets
                .into_iter()
                .map(|target| Target { service: 0, state: 0, generation: 0, ..target })
                .collect();
            assert_eq!(targets, wanted.targets, "{}", port.name);
            let owner = ids.entry(entry.id).or_insert(&port.name);
            assert_eq!(*owner, &port.name, "two service ports share id {}", entry.id);
            for client in World::<A>::clients() {
                let right =
                    !port.restricted || side(port).ranges.iter().any(|prefix| prefix.contains(client));
                assert_eq!(admits(maps, &entry, client), right, "{} {client:?}", port.name);
            }
        }
    }
    assert_eq!(maps.services.len(), entries, "no other entry is left");
}

/// Steps that touch a key which both configurations want alike.
fn check_untouched<A: IpBytes>(
    before: &FamilyContents<A>,
    steps: &[FamilyStep<A>],
    old: &Desired,
    new: &Desired,
    side: impl Fn(&DesiredPort) -> &Side<A>,
) {
    for port in new.ports.iter().filter(|port| old.ports.contains(port)) {
        for entry in &side(port).entries {
            let Some((now, _)) = served(before, &entry.key) else { continue };
            for step in steps {
                let touches = match step {
                    FamilyStep::PutService(key, _) | FamilyStep::DeleteService(key) => *key == entry.key,
                    FamilyStep::PutTarget(slot, _) => {
                        (now.first_target..now.first_target + now.target_count).contains(slot)
                    }
                    FamilyStep::PutRange(id, _) | FamilyStep::DeleteRange(id, _) => *id == now.id,
                };
                assert!(!touches, "{} did not change, but: {step}", port.name);
            }
        }
    }
}

fn family_steps<A>(steps: &[Step], of: impl Fn(&Step) -> Option<FamilyStep<A>>) -> Vec<FamilyStep<A>> {
    steps.iter().filter_map(of).collect()
}

fn run(edits: Vec<Edit>) {
    let mut maps = empty();
    let mut vacant = Vacant::default();
    let (mut v4, mut v6) = (World::<[u8; 4]>::default(), World::<[u8; 16]>::default());
    // The configuration that the maps are known to serve.
    let mut settled: Option<Desired> = None;
    for edit in edits {
        let desired = Desired::new(&edit.config, &edit.network);
        let plan = plan(&maps, &desired, &vacant);
        let (four, six) = (maps.v4.clone().unwrap(), maps.v6.clone().unwrap());
        if let Some(old) = &settled {
            let steps = family_steps(&plan.steps, |step| match step {
                Step::V4(step) => Some(step.clone()),
                _ => None,
            });
            check_untouched(&four, &steps, old, &desired, |port| &port.v4);
            let steps = family_steps(&plan.steps, |step| match step {
                Step::V6(step) => Some(step.clone()),
                _ => None,
            });
            check_untouched(&six, &steps, old, &desired, |port| &port.v6);
        }
        let done = (plan.steps.len() as f64 * edit.alive).round() as usize;
        let before = (World::admitted(&four), World::admitted(&six));
        let mut between = vec![];
        let mut moments = edit.flows.iter();
        for step in &plan.steps[..done] {
            apply(&mut maps, step);
            let (four, six) = (maps.v4.as_ref().unwrap(), maps.v6.as_ref().unwrap());
            v4.check(four);
            v6.check(six);
            between.push((World::admitted(four), World::admitted(six)));
            if let Some(moment) = moments.next() {
                v4.connect(four, moment);
                v6.connect(six, moment);
            }
        }
        if done < plan.steps.len() {
            // The next process knows nothing but the maps.
            vacant = Vacant::default();
            settled = None;
            continue;
        }
        let (four, six) = (maps.v4.as_ref().unwrap(), maps.v6.as_ref().unwrap());
        check_served(four, &desired, |port| &port.v4);
        check_served(six, &desired, |port| &port.v6);
        let after = (World::admitted(four), World::admitted(six));
        check_windows(&before.0, &after.0, between.iter().map(|state| &state.0));
        check_windows(&before.1, &after.1, between.iter().map(|state| &state.1));
        for moment in &edit.ends {
            for flows in [v4.flows.len(), v6.flows.len()].into_iter().filter(|len| *len > 0).take(1) {
                let index = moment.index(flows);
                if index < v4.flows.len() {
                    v4.flows.swap_remove(index);
                }
            }
        }
        vacant = Vacant::default();
        if edit.sweep {
            vacant = Vacant { v4: v4.sweep(four, &plan.policy.v4), v6: v6.sweep(six, &plan.policy.v6) };
        }
        let again = super::plan(&maps, &desired, &Vacant::default());
        assert_eq!(again.steps, [], "a second plan finds nothing to do");
        assert!(!again.sweep);
        settled = Some(desired);
    }
}

/// No client gets in, on the way, that neither the old nor the new state lets in.
fn check_windows<'a, A: IpBytes>(
    before: &HashMap<(ServiceKey<A>, A), bool>,
    after: &HashMap<(ServiceKey<A>, A), bool>,
    between: impl Iterator<Item = &'a HashMap<(ServiceKey<A>, A), bool>>,
) {
    for state in between {
        for (pair, admitted) in state.iter().filter(|(_, admitted)| **admitted) {
            let ever = before.get(pair) == Some(&true) || after.get(pair) == Some(&true);
            assert!(ever, "{pair:?} was let in on the way ({admitted})");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_state_on_the_way_is_safe_and_the_last_one_is_right(edits in edits()) {
        run(edits);
    }
}
