//! What two successive reports of a gateway mean for its Service.

use sluice_gateway::problem::Problem;

/// What is wrong with a gateway now, a sentence each, given its report and the one `before`; `None`: there was none.
///
/// A problem that counts dropped packets is one of now only if the count has grown: it may be of last week.
pub fn gateway_report(before: Option<&[Problem]>, report: &[Problem]) -> Vec<String> {
    let counted = |reason: &str| {
        let same = before?.iter().find(|problem| problem.reason == reason);
        Some(same.and_then(|problem| problem.dropped).unwrap_or(0))
    };
    let is_now = |problem: &&Problem| match problem.dropped {
        None => true,
        Some(dropped) => counted(&problem.reason).is_some_and(|before| dropped > before),
    };
    let mut sentences: Vec<String> = Vec::new();
    for problem in report.iter().filter(is_now) {
        if !sentences.contains(&problem.message) {
            sentences.push(problem.message.clone());
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(reason: &str, dropped: Option<u64>) -> Problem {
        Problem { reason: reason.into(), message: format!("{reason}!"), dropped }
    }

    /// A report, the one after it, and what is told then.
    type Case = (Option<Vec<Problem>>, Vec<Problem>, &'static [&'static str]);

    #[test]
    fn what_lasts_is_told_and_what_is_counted_while_it_grows() {
        let refused = problem("FileRefused", None);
        let full = |dropped| problem("FlowTableFull", Some(dropped));
        let cases: [Case; 9] = [
            (None, vec![], &[]),
            (None, vec![refused.clone()], &["FileRefused!"]),
            (Some(vec![refused.clone()]), vec![refused.clone(), refused.clone()], &["FileRefused!"]),
            (Some(vec![refused.clone()]), vec![], &[]),
            // Nobody knows when they were dropped.
            (None, vec![full(7)], &[]),
            (Some(vec![]), vec![full(7)], &["FlowTableFull!"]),
            (Some(vec![full(7)]), vec![full(7)], &[]),
            (Some(vec![full(7)]), vec![refused, full(8)], &["FileRefused!", "FlowTableFull!"]),
            // The maps were made anew.
            (Some(vec![full(7)]), vec![full(3)], &[]),
        ];
        for (before, report, expected) in cases {
            assert_eq!(gateway_report(before.as_deref(), &report), expected, "{before:?}, then {report:?}");
        }
    }
}
