//! What a bench has found, as tables and as JSON.

use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde_json::json;
use sluice_figures::Figure;

/// All figures, in the order in which they were found.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one.
    pub fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    /// The sections that have figures.
    pub fn sections(&self) -> Vec<&str> {
        unique(self.0.iter().map(|figure| figure.section.as_str()))
    }

    /// The figures of a section.
    pub fn of(&self, section: &str) -> impl Iterator<Item = &Figure> {
        self.0.iter().filter(move |figure| figure.section == section)
    }

    /// The figures of a row that have no goal, each with its case and the last word of the section.
    pub fn row(&self, section: &str, row: &str) -> Vec<(String, &Figure)> {
        let kind = section.rsplit(' ').next().unwrap_or_default();
        let of_row = self.of(section).filter(|figure| figure.figure == row && figure.goal.is_none());
        of_row.map(|figure| (format!("{}, {kind}", figure.case), figure)).collect()
    }

    /// Those that are not what they should be, as sentences.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.0.iter().filter(|figure| figure.is_missed());
        let goal = |figure: &Figure| figure.goal.as_ref().map(|goal| goal.text(figure)).unwrap_or_default();
        missed
            .map(|figure| {
                let Figure { figure: name, case, .. } = figure;
                format!("{name} ({case}): {}, not {}", figure.text(), goal(figure))
            })
            .collect()
    }

    /// A table for each section, in `form`: a row for each figure, a column for each case.
    pub fn tables(&self, form: Form) -> Vec<(&str, String)> {
        self.sections().into_iter().map(|section| (section, self.table(section, form))).collect()
    }

    /// The figures that have a goal, and whether they reach it. `None` where there are none.
    pub fn goals(&self, form: Form) -> Option<String> {
        let judged = || self.0.iter().filter_map(|figure| Some((figure, figure.goal.as_ref()?)));
        judged().next()?;
        let mut table = Table::new();
        table.load_style(form.style).set_header(["MEASURE", "CASE", "FIGURE", "GOAL", ""]);
        for (figure, goal) in judged() {
            let met = if figure.is_missed() { "MISSED" } else { "met" };
            let name = if figure.section.is_empty() {
                figure.figure.clone()
            } else {
                format!("{}: {}", figure.section, figure.figure)
            };
            table.add_row([name, figure.case.clone(), figure.text(), goal.text(figure), met.to_owned()]);
        }
        Some(table.to_string())
    }

    /// All of them, and what they were measured on, in one line.
    pub fn json(&self, machine: &str) -> String {
        json!({ "machine": machine, "figures": self.0, "missed": self.missed() }).to_string()
    }

    fn table(&self, section: &str, form: Form) -> String {
        let names = unique(self.of(section).map(|figure| figure.figure.as_str()));
        let cases = unique(self.of(section).map(|figure| figure.case.as_str()));
        let mut table = Table::new();
        table.load_style(form.style).set_header(["FIGURE"].into_iter().chain(cases.iter().copied()));
        for name in names {
            let of_case =
                |case: &&str| self.of(section).find(|figure| figure.figure == name && figure.case == *case);
            let text = |figure: &Figure| if form.spread { figure.text_with_spread() } else { figure.text() };
            let values = cases.iter().map(|case| of_case(case).map_or_else(|| "-".to_owned(), text));
            table.add_row([name.to_owned()].into_iter().chain(values));
        }
        for column in 1..=cases.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }
}

/// How a table is written.
#[derive(Clone, Copy)]
pub struct Form {
    style: TableStyle,
    /// With the least and the most of several rounds.
    spread: bool,
}

/// For people at a terminal.
pub const PLAIN: Form = Form { style: presets::NOTHING, spread: false };
/// For documents.
pub const MARKDOWN: Form = Form { style: presets::ASCII_MARKDOWN, spread: true };
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
            r#"{"figure": "writes", "case": "IPv4", "value": 6, "unit": "", "goal": {"at_most": 6}}"#,
            r#"{"figure": "time", "case": "IPv4", "value": 31.5, "unit": "s", "goal": null}"#,
            r#"{"figure": "writes", "case": "both", "value": 8, "unit": "", "goal": {"at_most": 7}}"#,
            r#"{"section": "pps", "figure": "1 flow", "case": "tc", "value": 1.2, "unit": "M/s"}"#,
        ] {
            figures.add(serde_json::from_str(line).unwrap());
        }
        figures
    }

    fn words(table: &str) -> Vec<Vec<&str>> {
        table.lines().map(|line| line.split_whitespace().collect()).collect()
    }

    #[test]
    fn what_is_not_as_it_should_be_is_missed() {
        assert_eq!(figures().missed(), ["writes (both): 8, not <= 7"]);
        let json: serde_json::Value = serde_json::from_str(&figures().json("a machine")).unwrap();
        assert_eq!(json["missed"].as_array().unwrap().len(), 1);
        assert_eq!(json["figures"][1]["value"], 31.5);
    }

    #[test]
    fn sections_are_tables_and_cases_columns() {
        let figures = figures();
        let tables = figures.tables(PLAIN);
        assert_eq!(tables.iter().map(|(section, _)| *section).collect::<Vec<_>>(), ["", "pps"]);
        assert_eq!(
            words(&tables[0].1),
            [vec!["FIGURE", "IPv4", "both"], vec!["writes", "6", "8"], vec!["time", "31.5", "s", "-"]]
        );
    }

    #[test]
    fn each_goal_is_met_or_missed() {
        let goals = figures().goals(PLAIN).unwrap();
        let goals = words(&goals);
        assert_eq!(goals[1], ["writes", "IPv4", "6", "<=", "6", "met"]);
        assert_eq!(goals[2], ["writes", "both", "8", "<=", "7", "MISSED"]);
    }
}
