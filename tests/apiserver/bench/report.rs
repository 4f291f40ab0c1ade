//! What is told to xtask.

use sluice_figures::{Figure, Goal, Line, Value};

/// What came out, of one case.
pub struct Figures(pub &'static str);

impl Figures {
    /// A figure for information.
    pub fn tell(&self, figure: &str, value: impl Into<Value>, unit: &str) {
        self.print(figure, value.into(), unit, None);
    }

    /// A figure that must not be more than `goal`.
    pub fn judge(&self, figure: &str, value: impl Into<Value>, unit: &str, goal: u64) {
        self.print(figure, value.into(), unit, Some(Goal::at_most(goal)));
    }

    fn print(&self, figure: &str, value: Value, unit: &str, goal: Option<Goal>) {
        Line::Figure(Figure {
            section: String::new(),
            figure: figure.to_owned(),
            case: self.0.to_owned(),
            value: value.0,
            unit: unit.to_owned(),
            spread: None,
            goal,
        })
        .print();
    }
}

/// With one digit after the point: nothing that is measured here is more precise.
pub fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
