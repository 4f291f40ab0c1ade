//! Telling each thing once: a level-triggered loop sees the same trouble in every pass.

use std::collections::BTreeSet;

use tracing::{info, warn};

use crate::status::{Interface, Role};

/// What the log has been told.
#[derive(Debug, Default)]
pub struct Told {
    problems: BTreeSet<String>,
    interfaces: Vec<(Role, String, Option<u32>, bool)>,
    sweep: Option<String>,
}

impl Told {
    /// Logs the problems that are new, and those that are over.
    pub fn tell(&mut self, problems: &[String]) {
        let now: BTreeSet<String> = problems.iter().cloned().collect();
        for problem in now.difference(&self.problems) {
            warn!(problem, "not everything works");
        }
        for problem in self.problems.difference(&now) {
            info!(problem, "works again");
        }
        self.problems = now;
    }

    /// Logs interfaces that came, went, or changed their state.
    pub fn interfaces(&mut self, interfaces: &[Interface]) {
        let now: Vec<_> = interfaces
            .iter()
            .map(|i| (i.role, i.name.clone(), i.ifindex, i.ifindex.is_some() && i.up))
            .collect();
        for state in now.iter().filter(|state| !self.interfaces.contains(state)) {
            let (role, interface, ifindex, up) = state;
            let role = role.name();
            match ifindex {
                Some(ifindex) if *up => info!(role, interface, ifindex, "interface is up"),
                Some(ifindex) => warn!(role, interface, ifindex, "interface is down"),
                None => warn!(role, interface, "interface is missing; waiting for it"),
            }
        }
        self.interfaces = now;
    }

    /// Logs a failure of the sweep unless the last one was the same.
    pub fn sweep(&mut self, error: Option<&str>) {
        if let Some(error) = error.filter(|error| self.sweep.as_deref() != Some(error)) {
            warn!(error, "the sweep failed; expired flows stay in the table until it works again");
        }
        self.sweep = error.map(str::to_owned);
    }
}
