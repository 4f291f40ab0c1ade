use proptest::prelude::*;

use super::*;
use crate::config::{Config, Vip};
use crate::net::object::{PRIORITY_FROM_CLUSTER, Seen};
use crate::net::samples::{config, fresh_pod, port, seed, vip};

fn plan_for(config: &Config, observed: &Observed) -> Plan {
    plan(&Desired::new(config, observed), observed)
}

fn texts(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

/// Carries out a plan as the kernel would, and panics where the kernel would refuse or where something is touched that is
/// not ours.
fn carry_out(plan: Plan, observed: &mut Observed) {
    fn add<T: PartialEq + fmt::Debug>(list: &mut Vec<Seen<T>>, object: T, taken: impl Fn(&T) -> bool) {
        assert!(!list.iter().any(|seen| taken(&seen.object)), "{object:?} exists");
        list.push(Seen { object, ours: true });
    }
    fn delete<T: PartialEq + fmt::Debug>(list: &mut Vec<Seen<T>>, object: &T) {
        let at =
            list.iter().position(|seen| seen.object == *object).unwrap_or_else(|| panic!("no {object:?}"));
        assert!(list.remove(at).ours, "{object:?} is not ours");
    }
    for step in plan.steps {
        match step {
            Step::Up(port) => {
                observed.links.iter_mut().filter(|link| link.port == port).for_each(|link| link.up = true)
            }
            Step::Set(port, setting, on) => {
                let link = observed.links.iter_mut().find(|link| link.port == port).unwrap();
                let inet = link.inet.as_mut().unwrap();
                match setting {
                    Setting::Forwarding => inet.forwarding = on,
                    Setting::PromoteSecondaries => inet.promote_secondaries = on,
                }
            }
            Step::AddAddress(new) => add(&mut observed.addresses, new.clone(), |old| {
                *old == new
                    || (new.net.addr().is_ipv6() && old.port == new.port && old.net.addr() == new.net.addr())
            }),
            Step::DeleteAddress(old) => delete(&mut observed.addresses, &old),
            Step::AddRoute(new) => add(&mut observed.routes, new.clone(), |old| {
                (old.table, old.destination) == (new.table, new.destination)
            }),
            Step::ReplaceRoute(new) => {
                let same = |seen: &&mut Seen<Route>| {
                    (seen.object.table, seen.object.destination) == (new.table, new.destination)
                };
                let seen = observed.routes.iter_mut().find(same).unwrap();
                assert!(seen.ours, "replaces {}", seen.object);
                seen.object = new;
            }
            Step::DeleteRoute(old) => delete(&mut observed.routes, &old),
            Step::AddRule(new) => add(&mut observed.rules, new.clone(), |old| *old == new),
            Step::DeleteRule(old) => delete(&mut observed.rules, &old),
        }
    }
}

/// The pod after a round.
fn converged(config: &Config) -> Observed {
    let mut observed = fresh_pod();
    carry_out(plan_for(config, &observed), &mut observed);
    observed
}

#[test]
fn the_seed_from_nothing() {
    assert_eq!(
        texts(&plan_for(&seed(), &fresh_pod())),
        [
            "set net1 up",
            "set forwarding of eth0 to 1",
            "set forwarding of net1 to 1",
            "set promote_secondaries of net1 to 1",
            "add address 172.18.0.18/16 dev net1",
            "add route 172.18.0.0/16 dev net1 table 100",
            "add route default via 172.18.0.1 dev net1 table 100",
            "add route 10.109.201.193/32 via 10.16.0.1 dev eth0 table 100",
            "add rule 32763: from 172.18.0.18 lookup 100",
            "add rule 32764: from all iif eth0 lookup 100 (IPv4)",
            "add rule 32765: from all iif net1 lookup 100 (IPv4)",
        ]
    );
}

#[test]
fn nothing_to_do_twice() {
    assert_eq!(plan_for(&seed(), &converged(&seed())), Plan::default());
}

#[test]
fn removal_undoes_all_and_only_that() {
    let mut observed = converged(&seed());
    assert_ne!(observed, fresh_pod());
    let undo = plan(&Desired::default(), &observed);
    carry_out(undo, &mut observed);
    let mut before = fresh_pod();
    before.links[1].up = true;
    assert_eq!(observed, before);
}

#[test]
fn forwarding_that_is_the_namespaces_own_stays() {
    let mut observed = converged(&seed());
    observed.inet_defaults.forwarding = true;
    let steps = texts(&plan(&Desired::default(), &observed));
    assert!(!steps.iter().any(|step| step.contains("forwarding")), "{steps:?}");
    assert!(steps.contains(&"set promote_secondaries of net1 to 0".to_owned()), "{steps:?}");
}

#[test]
fn an_identical_foreign_object_is_good_as_it_is() {
    let mut observed = converged(&seed());
    observed.addresses.iter_mut().for_each(|seen| seen.ours = false);
    observed.routes.iter_mut().for_each(|seen| seen.ours = false);
    observed.rules.iter_mut().for_each(|seen| seen.ours = false);
    assert_eq!(plan_for(&seed(), &observed), Plan::default());
    assert_eq!(plan(&Desired::default(), &observed), Plan::default());
}

#[test]
fn a_foreign_ipv6_address_of_another_prefix_is_left() {
    let mut observed = fresh_pod();
    let foreign = Address { port: port(3, "net1"), net: "fd00:18::18/120".parse().unwrap() };
    observed.addresses.push(Seen { object: foreign, ours: false });
    let steps = texts(&plan_for(&config(&[vip("fd00:18::18/64", None)], &[]), &observed));
    assert!(!steps.iter().any(|step| step.contains("address")), "{steps:?}");
}

#[test]
fn a_foreign_route_in_the_way_blocks_that_route_alone() {
    let mut observed = fresh_pod();
    let foreign = Route {
        table: 100,
        destination: "0.0.0.0/0".parse().unwrap(),
        gateway: None,
        port: port(0, "(none)"),
        onlink: false,
    };
    observed.routes.push(Seen { object: foreign, ours: false });
    let plan = plan_for(&seed(), &observed);
    assert_eq!(plan.blocked.len(), 1);
    assert_eq!(plan.steps.iter().filter(|step| matches!(step, Step::AddRoute(_))).count(), 2);
}

#[test]
fn a_vanished_interface_leaves_nothing_to_ask_for() {
    let mut observed = converged(&seed());
    observed.links.retain(|link| link.port.name != "net1");
    observed.addresses.retain(|seen| seen.object.port.name != "net1");
    observed.routes.retain(|seen| seen.object.port.name != "net1");
    assert_eq!(plan_for(&seed(), &observed), Plan::default());
}

#[test]
fn a_settings_record_is_the_rule_that_names_the_interface() {
    // Somebody else's forwarding, on a machine where Sluice never was: no rule of ours, no business of ours.
    let mut observed = fresh_pod();
    observed.links.iter_mut().for_each(|link| link.inet.as_mut().unwrap().forwarding = true);
    observed.rules.push(Seen {
        object: Rule {
            priority: PRIORITY_FROM_CLUSTER,
            ipv6: false,
            selector: Selector::Iif("eth0".to_owned()),
            table: 100,
        },
        ours: false,
    });
    assert_eq!(plan(&Desired::default(), &observed), Plan::default());
}

/// Addresses that collide now and then.
fn vips() -> impl Strategy<Value = Vec<Vip>> {
    let gateway = |family: &'static str| {
        prop_oneof![Just(None), (1..4u8).prop_map(move |last| Some(format!("{family}{last}")))]
    };
    let v4 = (16..20u8, prop_oneof![Just(16u8), Just(24), Just(32)], gateway("172.18.0."))
        .prop_map(|(last, bits, gateway)| vip(&format!("172.18.0.{last}/{bits}"), gateway.as_deref()));
    let v6 = (16..20u8, prop_oneof![Just(64u8), Just(80), Just(128)], gateway("fd00:18::"))
        .prop_map(|(last, bits, gateway)| vip(&format!("fd00:18::{last}/{bits}"), gateway.as_deref()));
    // The configuration accepts an address once.
    proptest::collection::vec(prop_oneof![v4, v6], 0..5).prop_map(|mut vips: Vec<Vip>| {
        vips.sort_by_key(|vip| vip.address.addr());
        vips.dedup_by_key(|vip| vip.address.addr());
        vips
    })
}

fn configs() -> impl Strategy<Value = Config> {
    let targets =
        proptest::sample::subsequence(vec!["10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2"], 0..4);
    (vips(), targets, prop_oneof![Just(100u32), Just(200)]).prop_map(|(vips, targets, table)| {
        let mut config = config(&vips, &targets);
        config.gateway.table = table;
        config
    })
}

/// What somebody else might have made, the same things as ours among it.
fn foreign() -> impl Strategy<Value = (Vec<Address>, Vec<Rule>, Vec<Route>)> {
    configs().prop_flat_map(|config| {
        let desired = Desired::new(&config, &fresh_pod());
        let some = |count: usize| 0..=count.min(2);
        (
            proptest::sample::subsequence(desired.addresses.clone(), some(desired.addresses.len())),
            proptest::sample::subsequence(desired.rules.clone(), some(desired.rules.len())),
            proptest::sample::subsequence(desired.routes.clone(), some(desired.routes.len())),
        )
    })
}

proptest! {
    /// From any configuration to any other, past whatever others made: the kernel accepts every step, a second round has
    /// nothing to do, and what others made is as it was, also after removal.
    #[test]
    fn any_edit_converges_and_touches_nothing_foreign(from in configs(), to in configs(), foreign in foreign()) {
        let mut observed = fresh_pod();
        let theirs = |object| Seen { object, ours: false };
        observed.addresses.extend(foreign.0.into_iter().map(|object| Seen { object, ours: false }));
        observed.rules.extend(foreign.1.into_iter().map(|object| Seen { object, ours: false }));
        observed.routes.extend(foreign.2.into_iter().map(theirs));
        let before = observed.clone();
        for config in [&from, &to] {
            carry_out(plan_for(config, &observed), &mut observed);
            let again = plan_for(config, &observed);
            prop_assert_eq!(again.steps, vec![]);
            let desired = Desired::new(config, &observed);
            for route in &desired.routes {
                let there = observed.routes.iter().any(|seen| seen.object == *route);
                prop_assert!(there || again.blocked.iter().any(|blocked| blocked.wanted == *route));
            }
            for seen in observed.routes.iter().filter(|seen| seen.ours) {
                prop_assert!(desired.routes.contains(&seen.object));
            }
        }
        carry_out(plan(&Desired::default(), &observed), &mut observed);
        // Where somebody else's rule served for ours, there is no record that the settings are ours: they stay.
        let recorded = before.rules.is_empty();
        prop_assert_eq!(observed.addresses, before.addresses);
        prop_assert_eq!(observed.rules, before.rules);
        prop_assert_eq!(observed.routes, before.routes);
        for (now, then) in observed.links.iter().zip(&before.links) {
            prop_assert!(now.inet == then.inet || !recorded);
        }
    }
}
