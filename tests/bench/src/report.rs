//! What is told to xtask.

use sluice_figures::{Figure, Goal, Line, Value};

use crate::rounds::Rounds;

/// The column of ratios.
const RATIO: &str = "ratio";

/// Tells figures of one table.
#[derive(Clone, Copy)]
pub struct Section(pub &'static str);

impl Section {
    /// What several rounds came to, with `digits` digits after the point.
    pub fn rounds(&self, figure: &str, case: &str, rounds: &Rounds, unit: &str, goal: Option<Goal>) {
        let value = Value::from(rounded(rounds.median()));
        self.print(figure, case, value, unit, Some(rounds.spread().map(rounded)), goal);
    }

    /// A ratio in several rounds, which has a goal.
    pub fn ratio(&self, figure: &str, rounds: &Rounds, goal: Goal) {
        self.rounds(figure, RATIO, rounds, "x", Some(goal));
    }

    /// A single value.
    pub fn value(&self, figure: &str, case: &str, value: impl Into<Value>, unit: &str, goal: Option<Goal>) {
        self.print(figure, case, value.into(), unit, None, goal);
    }

    fn print(
        &self,
        figure: &str,
        case: &str,
        value: Value,
        unit: &str,
        spread: Option<[f64; 2]>,
        goal: Option<Goal>,
    ) {
        Line::Figure(Figure {
            section: self.0.to_owned(),
            figure: figure.to_owned(),
            case: case.to_owned(),
            value: value.0,
            unit: unit.to_owned(),
            spread,
            goal,
        })
        .print();
    }
}

/// With three digits that count: nothing that is measured here is more precise.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(2 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        assert_eq!([0.0, 1.23456, 123_456.0, 0.012_345].map(rounded), [0.0, 1.23, 123_000.0, 0.0123]);
    }
}
