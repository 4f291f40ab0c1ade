//! From the whole picture to what is wrong in it.

use sluice_gateway_ebpf::verdict::Drop as Reason;

use crate::problem::Problem;
use crate::status::Status;

/// A flow table counts as nearly full from this share on, percent.
const NEARLY_FULL: f64 = 90.0;

/// What is wrong, the worst first.
pub fn problems(status: &Status) -> Vec<Problem> {
    let mut problems: Vec<Problem> =
        status.not_ready.iter().map(|why| now("NotReady", format!("not ready: {why}"))).collect();
    let refusal = status.config.as_ref().and_then(|config| config.refusal.as_ref());
    problems.extend(refusal.map(|refusal| {
        now(
            "FileRefused",
            format!("the file is refused, the last good one stays in force: {}", refusal.error),
        )
    }));
    let exhausted = [
        (
            Reason::TableFull,
            "FlowTableFull",
            "new connections are refused: the flow table is full; raise maxFlows",
        ),
        (
            Reason::PortsExhausted,
            "PortsExhausted",
            "new connections are refused: no source port is free towards a target; add SNAT addresses or targets",
        ),
    ];
    problems.extend(exhausted.into_iter().filter_map(|(drop, reason, message)| {
        let packets = status.drops.iter().find(|dropped| dropped.reason == drop.name())?.packets;
        let problem = Problem { dropped: Some(packets), ..now(reason, message.to_owned()) };
        Some(problem).filter(|_| packets > 0)
    }));
    let nearly_full = status.flow_tables.iter().filter(|table| table.percent() > NEARLY_FULL);
    problems.extend(nearly_full.map(|table| {
        let message =
            format!("more than {NEARLY_FULL} % of the {} flow table is in use; raise maxFlows", table.family);
        now("FlowTableNearlyFull", message)
    }));
    let sweep = status.sweep.as_ref().and_then(|sweep| sweep.error.as_ref());
    problems.extend(sweep.map(|error| now("SweepFailed", format!("expired flows are not removed: {error}"))));
    problems.extend(status.problems.iter().map(|problem| now("NotEverythingWorks", problem.clone())));
    problems
}

fn now(reason: &str, message: String) -> Problem {
    Problem { reason: reason.to_owned(), message, dropped: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Drop, FlowTable, Sweep, sample};

    #[test]
    fn each_kind_of_trouble_is_told() {
        let mut status = sample();
        let refused = problems(&status);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].reason, "FileRefused");
        assert!(refused[0].message.contains("line 3: port: 0 is no port"));

        status.config = None;
        status.drops = vec![
            Drop { reason: "no_flow".into(), packets: 3 },
            Drop { reason: "table_full".into(), packets: 5 },
            Drop { reason: "ports_exhausted".into(), packets: 0 },
        ];
        status.not_ready = vec!["forward_v4 is not attached to net1 ingress".into()];
        status.flow_tables = vec![
            FlowTable { family: "ipv4".into(), entries: 90, capacity: 100 },
            FlowTable { family: "ipv6".into(), entries: 91, capacity: 100 },
        ];
        status.sweep = Some(Sweep { error: Some("no memory".into()), ..Sweep::default() });
        status.problems = vec!["the route is not ours".into()];
        let told: Vec<(String, Option<u64>)> =
            problems(&status).into_iter().map(|problem| (problem.reason, problem.dropped)).collect();
        let expected = [
            ("NotReady", None),
            ("FlowTableFull", Some(5)),
            ("FlowTableNearlyFull", None),
            ("SweepFailed", None),
            ("NotEverythingWorks", None),
        ];
        assert_eq!(told, expected.map(|(reason, dropped)| (reason.to_owned(), dropped)));
        assert!(problems(&status)[2].message.contains("ipv6"));
    }

    #[test]
    fn a_gateway_in_order_has_none() {
        let mut status = sample();
        status.config = None;
        assert_eq!(problems(&status), []);
    }
}
