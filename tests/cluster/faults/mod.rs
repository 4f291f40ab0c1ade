//! What is lost while something fails: under load, with every loss counted. `docs/reliability.md` has the table, and these cases print its rows.
//!
//! ```text
//! load        requests, connections that stay, datagrams; what became of them
//! served      a Service under load, and what is done to its gateway
//! gateway     its container and its pod end: beside all other cases
//! parts       parts that everybody shares: of a node, the control plane, the controllers
//! nodes       whole nodes
//! timeline    what happens when, from the end of a node to another gateway
//! ```

mod gateway;
mod load;
mod nodes;
mod parts;
mod served;
mod timeline;

use std::time::Duration;

use crate::site;
use load::Outcome;
use timeline::Timeline;

/// What went wrong in a row of faults; told at the end, so that the whole table is printed.
#[derive(Default)]
struct Account(Vec<String>);

impl Account {
    /// For what must not be noticed.
    fn nothing_lost(&mut self, what: &str, outcome: &Outcome) {
        self.enter(what, outcome, outcome.is_lost_by_gateway());
    }

    /// For what takes the gateway away.
    fn back_within(&mut self, limit: Duration, what: &str, outcome: &Outcome) {
        self.enter(what, outcome, outcome.gap > limit);
    }

    /// For what takes its node away: `limit` is from the moment in which Kubernetes has seen that.
    fn moved_within(&mut self, limit: Duration, what: &str, timeline: &Timeline, outcome: &Outcome) {
        self.enter(&format!("{what}: {timeline}"), outcome, timeline.after_detection() > limit);
    }

    fn enter(&mut self, what: &str, outcome: &Outcome, is_wrong: bool) {
        report(&format!("{what} | {outcome}"));
        if is_wrong {
            self.0.push(format!("{what}: {outcome:?}"));
        }
    }

    /// Fails if anything was wrong.
    fn close(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

/// Writes a row of the table.
fn report(cells: &str) {
    site::tell(&format!("| {cells} |"));
}
