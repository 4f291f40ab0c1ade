//! What clients and backends observed, and how two records of the same script may differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// What was observed: case -> field -> value. A case is a path such as `v4/far/udp/1400/df`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    cases: BTreeMap<String, BTreeMap<&'static str, String>>,
}

impl Record {
    /// Notes a value.
    pub fn note(&mut self, case: &str, field: &'static str, value: impl fmt::Debug) {
        self.cases.entry(case.to_owned()).or_default().insert(field, format!("{value:?}"));
    }

    /// The value of a field.
    pub fn get(&self, case: &str, field: &str) -> Option<&str> {
        self.cases.get(case)?.get(field).map(String::as_str)
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.cases.iter().flat_map(|(case, fields)| fields.keys().map(move |field| (case.as_str(), *field)))
    }
}

/// A difference that `docs/netfilter-differences.md` describes.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The heading in the document, as an anchor.
    pub anchor: &'static str,
    /// Which cases: a path whose `*` stand for one segment, and whose last `**` stands for any rest.
    pub cases: &'static str,
    /// Which field; `*`: any.
    pub field: &'static str,
    /// What the difference must look like: (ours, netfilter's); `<none>` stands for a missing field.
    pub holds: fn(&str, &str) -> bool,
}

/// Compares what was observed through Sluice with what was observed through netfilter.
///
/// Returns every difference that no entry of `allowed` covers, and every entry that covers none: a difference that has
/// gone must leave the table.
pub fn compare(sluice: &Record, netfilter: &Record, allowed: &[Allowed]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = vec![false; allowed.len()];
    let mut fields: Vec<_> = sluice.fields().chain(netfilter.fields()).collect();
    fields.sort_unstable();
    fields.dedup();
    for (case, field) in fields {
        let ours = sluice.get(case, field).unwrap_or("<none>");
        let theirs = netfilter.get(case, field).unwrap_or("<none>");
        if ours == theirs {
            continue;
        }
        let entry = allowed.iter().position(|entry| {
            covers(entry.cases, case)
                && (entry.field == "*" || entry.field == field)
                && (entry.holds)(ours, theirs)
        });
        match entry {
            Some(index) => used[index] = true,
            None => {
                let mut line = String::new();
                let _ = write!(line, "{case}: {field}: sluice {ours}, netfilter {theirs}");
                complaints.push(line);
            }
        }
    }
    for (entry, _) in allowed.iter().zip(used).filter(|(_, used)| !used) {
        complaints
            .push(format!("no such difference any more: {} ({} {})", entry.anchor, entry.cases, entry.field));
    }
    complaints
}

fn covers(pattern: &str, case: &str) -> bool {
    let (mut pattern, mut case) = (pattern.split('/'), case.split('/'));
    loop {
        match (pattern.next(), case.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(want), Some(got)) if want == got => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: u32) -> Record {
        let mut record = Record::default();
        record.note("v4/far/tcp", "mss", value);
        record
    }

    const CLAMPED: Allowed = Allowed { anchor: "#mss", cases: "*/*/tcp", field: "mss", holds: |a, b| a < b };

    #[test]
    fn equal_records_have_no_complaint() {
        assert!(compare(&record(1), &record(1), &[]).is_empty());
    }

    #[test]
    fn only_listed_differences_pass() {
        assert_eq!(compare(&record(1), &record(2), &[]).len(), 1);
        assert!(compare(&record(1), &record(2), &[CLAMPED]).is_empty());
        assert_eq!(
            compare(&record(2), &record(1), &[CLAMPED]).len(),
            2,
            "the wrong way round, and so a stale entry"
        );
        assert_eq!(compare(&record(1), &Record::default(), &[]).len(), 1);
    }

    #[test]
    fn a_stale_entry_is_a_complaint() {
        assert_eq!(compare(&record(1), &record(1), &[CLAMPED]).len(), 1);
    }

    #[test]
    fn patterns_match_by_segment() {
        assert!(covers("v4/**", "v4/far/udp/1"));
        assert!(covers("*/far/udp/*", "v6/far/udp/1"));
        assert!(!covers("*/far/udp", "v6/far/udp/1"));
        assert!(!covers("*/far/udp/*", "v6/far/udp"));
    }
}
