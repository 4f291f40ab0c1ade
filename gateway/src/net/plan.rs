//! From what is there to what should be there: a list of kernel operations.

use std::fmt;

use super::desired::Desired;
use super::object::{Address, Observed, PRIORITY_FROM_EXTERNAL, Port, Route, Rule, Selector, Setting};

/// One kernel operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set an interface up.
    Up(Port),
    /// Switch an IPv4 setting of an interface.
    Set(Port, Setting, bool),
    /// Add an address.
    AddAddress(Address),
    /// Remove one of our addresses.
    DeleteAddress(Address),
    /// Add a route.
    AddRoute(Route),
    /// Replace one of our routes by another for the same destination, without a moment between them.
    ReplaceRoute(Route),
    /// Remove one of our routes.
    DeleteRoute(Route),
    /// Add a rule.
    AddRule(Rule),
    /// Remove one of our rules.
    DeleteRule(Rule),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(port) => write!(f, "set {port} up"),
            Self::Set(port, setting, on) => {
                write!(f, "set {} of {port} to {}", setting.name(), u8::from(*on))
            }
            Self::AddAddress(address) => write!(f, "add address {address}"),
            Self::DeleteAddress(address) => write!(f, "remove address {address}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::ReplaceRoute(route) => write!(f, "replace route by {route}"),
            Self::DeleteRoute(route) => write!(f, "remove route {route}"),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "remove rule {rule}"),
        }
    }
}

/// Something that cannot be done because an object that is not ours stands in its place. It is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What should be there.
    pub wanted: Route,
    /// What is there.
    pub found: Route,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "route {} is not ours and stands in the way of {}: remove it, or set another `table`",
            self.found, self.wanted
        )
    }
}

/// What to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Operations. What is added comes before what is removed, so that a change never leaves a gap where the kernel lets both exist.
    pub steps: Vec<Step>,
    /// What cannot be done.
    pub blocked: Vec<Blocked>,
}

/// Compares. Pure; an empty plan means that all is as it should be. An object that is wanted and exists without our mark
/// is good as it is, and stays somebody else's.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    links(&mut plan, desired, observed);
    add_addresses(&mut plan, desired, observed);
    add_routes(&mut plan, desired, observed);
    for rule in &desired.rules {
        if !observed.rules.iter().any(|seen| seen.object == *rule) {
            plan.steps.push(Step::AddRule(rule.clone()));
        }
    }
    remove(&mut plan, desired, observed);
    plan
}

fn links(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let link = |port: &Port| observed.links.iter().find(|link| link.port == *port);
    for port in &desired.up {
        if link(port).is_some_and(|link| !link.up) {
            plan.steps.push(Step::Up(port.clone()));
        }
    }
    for (port, setting) in &desired.settings {
        let inet = link(port).and_then(|link| link.inet);
        if inet.is_some_and(|inet| !inet.get(*setting)) {
            plan.steps.push(Step::Set(port.clone(), *setting, true));
        }
    }
}

fn add_addresses(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    for wanted in &desired.addresses {
        // IPv6 holds an address once per interface, whatever its prefix length: it cannot be added beside itself.
        let same = |found: &Address| {
            found == wanted
                || (wanted.net.addr().is_ipv6()
                    && found.port == wanted.port
                    && found.net.addr() == wanted.net.addr())
        };
        match observed.addresses.iter().find(|seen| same(&seen.object)) {
            None => plan.steps.push(Step::AddAddress(wanted.clone())),
            Some(seen) if seen.ours && seen.object != *wanted => {
                plan.steps.push(Step::DeleteAddress(seen.object.clone()));
                plan.steps.push(Step::AddAddress(wanted.clone()));
            }
            Some(_) => {}
        }
    }
}

fn add_routes(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    for wanted in &desired.routes {
        let rival = |found: &Route| found.table == wanted.table && found.destination == wanted.destination;
        let mut rivals = observed.routes.iter().filter(|seen| rival(&seen.object)).peekable();
        if rivals.peek().is_none() {
            plan.steps.push(Step::AddRoute(wanted.clone()));
        } else if rivals.clone().any(|seen| seen.object == *wanted) {
        } else if let Some(foreign) = rivals.find(|seen| !seen.ours) {
            plan.blocked.push(Blocked { wanted: wanted.clone(), found: foreign.object.clone() });
        } else {
            plan.steps.push(Step::ReplaceRoute(wanted.clone()));
        }
    }
}

fn remove(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let stale_rules: Vec<&Rule> = observed
        .rules
        .iter()
        .filter(|seen| seen.ours && !desired.rules.contains(&seen.object))
        .map(|s| &s.object)
        .collect();
    for rule in &stale_rules {
        plan.steps.push(Step::DeleteRule((*rule).clone()));
    }
    for seen in observed.routes.iter().filter(|seen| seen.ours && !desired.routes.contains(&seen.object)) {
        let replaced = plan.steps.iter().any(|step| {
            matches!(step, Step::ReplaceRoute(new) if new.table == seen.object.table && new.destination == seen.object.destination)
        });
        if !replaced {
            plan.steps.push(Step::DeleteRoute(seen.object.clone()));
        }
    }
    for seen in
        observed.addresses.iter().filter(|seen| seen.ours && !desired.addresses.contains(&seen.object))
    {
        let step = Step::DeleteAddress(seen.object.clone());
        if !plan.steps.contains(&step) {
            plan.steps.push(step);
        }
    }
    // A rule of ours that names an interface is also the record that its settings are ours.
    for rule in stale_rules.iter().filter(|rule| !rule.ipv6) {
        let Selector::Iif(name) = &rule.selector else { continue };
        let Some((port, inet)) = observed.link(name).and_then(|link| Some((&link.port, link.inet?))) else {
            continue;
        };
        for setting in Setting::ALL {
            let made = setting == Setting::Forwarding || rule.priority == PRIORITY_FROM_EXTERNAL;
            let wanted = desired.settings.iter().any(|(p, s)| p == port && *s == setting);
            if made && !wanted && inet.get(setting) && !observed.inet_defaults.get(setting) {
                plan.steps.push(Step::Set(port.clone(), setting, false));
            }
        }
    }
}

#[cfg(test)]
mod tests;
