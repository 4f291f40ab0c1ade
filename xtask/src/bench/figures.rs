//! What a bench finds: figures of one or more cases, some with a goal.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};

/// What a bench's program says, one JSON object a line.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// How far it has come; a phase goes on until another begins.
    Phase {
        /// What it does.
        phase: String,
        /// Steps done.
        done: u64,
        /// All steps.
        of: u64,
    },
    /// What it has found.
    Figure(Figure),
}

/// A figure.
#[derive(Clone, Deserialize, Serialize)]
pub struct Figure {
    /// What was measured.
    figure: String,
    /// Of what.
    case: String,
    value: Number,
    unit: String,
    /// The most that it may be.
    goal: Option<Number>,
}

impl Figure {
    fn is_missed(&self) -> bool {
        let goal = self.goal.as_ref().and_then(Number::as_f64);
        goal.zip(self.value.as_f64()).is_some_and(|(goal, value)| value > goal)
    }

    fn with_unit(&self, number: &Number) -> String {
        format!("{number} {}", self.unit).trim_end().to_owned()
    }
}

/// All of them, in the order in which they were found.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one.
    pub fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    /// Those that are more than they may be, as sentences.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.0.iter().filter(|figure| figure.is_missed());
        let goal =
            |figure: &Figure| figure.goal.as_ref().map(|goal| figure.with_unit(goal)).unwrap_or_default();
        missed
            .map(|figure| {
                let Figure { figure: name, case, .. } = figure;
                format!("{name} ({case}): {}, not {}", figure.with_unit(&figure.value), goal(figure))
            })
            .collect()
    }

    /// A row for each figure, a column for each case.
    pub fn table(&self) -> String {
        let names = unique(self.0.iter().map(|figure| figure.figure.as_str()));
        let cases = unique(self.0.iter().map(|figure| figure.case.as_str()));
        let mut table = Table::new();
        let header = ["FIGURE"].into_iter().chain(cases.iter().copied()).chain(["GOAL"]);
        table.load_style(presets::NOTHING).set_header(header);
        for name in names {
            let of_case =
                |case: &&str| self.0.iter().find(|figure| figure.figure == name && figure.case == *case);
            let found: Vec<Option<&Figure>> = cases.iter().map(of_case).collect();
            let values =
                found.iter().map(|figure| figure.map_or_else(|| "-".to_owned(), |f| f.with_unit(&f.value)));
            let goals = found.iter().flatten().filter_map(|f| f.goal.as_ref().map(|goal| f.with_unit(goal)));
            let goals: Vec<String> = goals.collect();
            let goals = unique(goals.iter().map(String::as_str)).join(", ");
            table.add_row([name.to_owned()].into_iter().chain(values).chain([goals]));
        }
        for column in 1..=cases.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// All of them, and what they were measured on, in one line.
    pub fn json(&self, machine: &str) -> String {
        json!({ "machine": machine, "figures": self.0, "missed": self.missed() }).to_string()
    }
}

/// Each once, in the order of their first appearance.
fn unique<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unique = Vec::new();
    for one in all {
        if !unique.contains(&one) {
            unique.push(one);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for line in [
            r#"{"figure": "writes", "case": "IPv4", "value": 6, "unit": "", "goal": 6}"#,
            r#"{"figure": "time", "case": "IPv4", "value": 31.5, "unit": "s", "goal": null}"#,
            r#"{"figure": "writes", "case": "both", "value": 8, "unit": "", "goal": 7}"#,
        ] {
            let Line::Figure(figure) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
            figures.add(figure);
        }
        figures
    }

    #[test]
    fn more_than_the_goal_is_missed() {
        assert_eq!(figures().missed(), ["writes (both): 8, not 7"]);
        let json: serde_json::Value = serde_json::from_str(&figures().json("a machine")).unwrap();
        assert_eq!(json["missed"].as_array().unwrap().len(), 1);
        assert_eq!(json["figures"][1]["value"], 31.5);
    }

    #[test]
    fn cases_are_columns() {
        let table = figures().table();
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            words,
            [
                vec!["FIGURE", "IPv4", "both", "GOAL"],
                vec!["writes", "6", "8", "6,", "7"],
                vec!["time", "31.5", "s", "-"]
            ]
        );
    }

    #[test]
    fn progress_is_told_apart_from_figures() {
        let line = serde_json::from_str(r#"{"phase": "1000 Services", "done": 12, "of": 1000}"#).unwrap();
        assert!(matches!(line, Line::Phase { done: 12, of: 1000, .. }));
    }
}
