//! From what the maps hold and what they shall serve to the steps in between. Pure.
//!
//! Numbers (service ids, target slots) live in the maps and nowhere else: a plan made after a restart recovers them from
//! there, never changes one that is in use, and gives a used one to something else only with evidence, from a complete pass
//! over the flows, that no flow names it ([`Vacant`]).

mod family;
mod ids;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use family::{Admitted, at_rest};

use family::{FamilyPlan, Wanted};

use super::{
    address::IpBytes,
    contents::{Contents, FamilyContents, Vacant},
    desired::{Desired, DesiredPort, PortName, Problem, Side},
    step::{FamilyStep, Step},
};

/// What to do, and what it means for those who read the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Changes, to be made in this order. None: the maps serve what they shall.
    pub steps: Vec<Step>,
    /// Whether the flows need a complete pass at once: some may have lost their right to be.
    pub sweep: bool,
    /// Whom each service id belongs to.
    pub names: BTreeMap<u32, PortName>,
    /// Who may use which service.
    pub policy: Policy,
    /// What cannot be served as asked, and why.
    pub problems: Vec<Problem>,
}

/// Who may use which service id: what the sweep holds against existing flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// IPv4.
    pub v4: Admitted<[u8; 4]>,
    /// IPv6.
    pub v6: Admitted<[u8; 16]>,
}

/// Plans the way from `now` to `desired`. `vacant` comes from this process's sweeps only.
pub fn plan(now: &Contents, desired: &Desired, vacant: &Vacant) -> Plan {
    let ids = ids::assign(now, desired);
    let mut plan = Plan { problems: desired.problems.clone(), ..Plan::default() };
    if now.config != desired.config {
        plan.steps.push(Step::Config(desired.config));
    }
    plan.steps.extend(ids.fresh.iter().map(|id| Step::ResetStats(*id)));
    let mut ports = Vec::new();
    for (port, id) in desired.ports.iter().zip(ids.of_port) {
        match id {
            Some(id) => {
                plan.names.insert(id, port.name.clone());
                ports.push((id, port));
            }
            None if ids::has_entries(now, port) => {
                plan.problems.push(Problem::ServicesFull { port: port.name.clone() });
            }
            None => {}
        }
    }
    plan.policy.v4 = plan.family(now.v4.as_ref(), &ports, |port| &port.v4, &vacant.v4, Step::V4);
    plan.policy.v6 = plan.family(now.v6.as_ref(), &ports, |port| &port.v6, &vacant.v6, Step::V6);
    plan
}

impl Plan {
    fn family<A: IpBytes>(
        &mut self,
        now: Option<&FamilyContents<A>>,
        ports: &[(u32, &DesiredPort)],
        side: impl Fn(&DesiredPort) -> &Side<A>,
        vacant: &BTreeMap<u16, u32>,
        step: impl Fn(FamilyStep<A>) -> Step,
    ) -> Admitted<A> {
        let wanted: Vec<_> =
            ports.iter().map(|(id, port)| Wanted { id: *id, port, side: side(port) }).collect();
        let Some(now) = now else {
            let lost = wanted.iter().filter(|want| !want.side.entries.is_empty());
            self.problems.extend(
                lost.map(|want| Problem::NoFamily { port: want.port.name.clone(), family: A::SUFFIX }),
            );
            return Admitted::new();
        };
        let FamilyPlan { steps, sweep, problems, admitted } = family::plan(now, &wanted, vacant);
        self.steps.extend(steps.into_iter().map(step));
        self.sweep |= sweep;
        self.problems.extend(problems);
        admitted
    }
}
