//! When a gateway is ready: while packets to every VIP of the configuration in force are served.
//!
//! A refused edit, a failed netlink step or a silent router are problems to be told, never reasons here: to be unready is to
//! have the VIP withdrawn.

use crate::status::{Interface, Program, Vip};

/// What readiness depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Why there is no configuration, if there is none.
    pub unconfigured: Option<&'a str>,
    /// Whether the maps hold the configuration in force.
    pub filled: bool,
    /// Both interfaces.
    pub interfaces: &'a [Interface],
    /// Every program that the families in use need.
    pub programs: &'a [Program],
    /// Every VIP.
    pub vips: &'a [Vip],
}

/// Every reason not to be ready, as a sentence for people.
pub fn not_ready(facts: &Facts) -> Vec<String> {
    if let Some(why) = facts.unconfigured {
        return vec![why.to_owned()];
    }
    let missing = facts.interfaces.iter().filter_map(|interface| {
        let (name, role) = (&interface.name, interface.role.name());
        match interface.ifindex {
            None => Some(format!("the {role} interface {name} is missing")),
            Some(_) if !interface.up => Some(format!("the {role} interface {name} is down")),
            Some(_) => None,
        }
    });
    let mut reasons: Vec<String> = missing.collect();
    // The rest follows from a missing interface; it would only hide the cause.
    if !reasons.is_empty() {
        return reasons;
    }
    if !facts.filled {
        reasons.push("the maps do not hold the configuration in force yet".to_owned());
    }
    if facts.programs.is_empty() && !facts.vips.is_empty() {
        reasons.push("no program is loaded".to_owned());
    }
    reasons.extend(facts.programs.iter().filter(|program| !program.attached).map(|program| {
        format!("{} is not attached to {} {}", program.name, program.interface, program.hook)
    }));
    let absent = facts.vips.iter().filter(|vip| !vip.present);
    reasons.extend(absent.map(|vip| format!("the external interface does not have {}", vip.address)));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Role;

    fn interface(role: Role, name: &str) -> Interface {
        Interface { role, name: name.into(), ifindex: Some(4), up: true, mtu: 1500, addresses: vec![] }
    }

    fn program(attached: bool) -> Program {
        Program {
            name: "forward_v4".into(),
            interface: "net1".into(),
            hook: "ingress".into(),
            mode: "tcx".into(),
            attached,
        }
    }

    fn vip(present: bool) -> Vip {
        Vip { address: "172.18.0.18/16".parse().unwrap(), gateway: None, present }
    }

    #[test]
    fn ready_means_interfaces_programs_maps_and_vips() {
        let interfaces = [interface(Role::External, "net1"), interface(Role::Cluster, "eth0")];
        let good = Facts {
            unconfigured: None,
            filled: true,
            interfaces: &interfaces,
            programs: &[program(true)],
            vips: &[vip(true)],
        };
        assert!(not_ready(&good).is_empty());
        let only = |facts: Facts| {
            let reasons = not_ready(&facts);
            assert_eq!(reasons.len(), 1, "{reasons:?}");
            reasons[0].clone()
        };
        assert!(only(Facts { filled: false, ..good }).contains("maps"));
        assert!(
            only(Facts { programs: &[program(false)], ..good })
                .contains("forward_v4 is not attached to net1")
        );
        assert!(only(Facts { programs: &[], ..good }).contains("no program"));
        assert!(only(Facts { vips: &[vip(false)], ..good }).contains("172.18.0.18"));
        assert_eq!(only(Facts { unconfigured: Some("no file"), vips: &[vip(false)], ..good }), "no file");

        let mut down = interfaces.clone();
        down[0].up = false;
        assert_eq!(only(Facts { interfaces: &down, ..good }), "the external interface net1 is down");
        let mut gone = interfaces.clone();
        gone[1].ifindex = None;
        let reason = only(Facts { interfaces: &gone, programs: &[program(false)], ..good });
        assert_eq!(reason, "the cluster interface eth0 is missing");
    }

    #[test]
    fn a_gateway_without_services_is_ready() {
        let facts = Facts { unconfigured: None, filled: true, interfaces: &[], programs: &[], vips: &[] };
        assert!(not_ready(&facts).is_empty());
    }
}
