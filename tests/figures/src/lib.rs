//! What a bench's program says to `cargo xtask bench`: one JSON object a line, on standard output.
//!
//! ```json
//! {"phase": "1000 Services", "done": 12, "of": 1000}
//! {"figure": "writes for a Service", "case": "IPv4", "value": 6, "unit": "", "goal": {"at_most": 6}}
//! ```
//!
//! A phase goes on until another begins.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// A line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// How far it has come.
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

impl Line {
    /// Says it.
    pub fn print(&self) {
        // Nothing in a line can fail to be written as JSON.
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

/// A figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// The table that it belongs to; empty where there is one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub section: String,
    /// What was measured: the row.
    pub figure: String,
    /// Of what: the column.
    pub case: String,
    /// Its value; of several rounds, the median.
    pub value: Number,
    /// Its unit.
    pub unit: String,
    /// The least and the most of several rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

impl Figure {
    /// Whether it is not what it should be.
    pub fn is_missed(&self) -> bool {
        let value = self.value.as_f64();
        match &self.goal {
            None => false,
            Some(Goal::AtMost(bound)) => value > bound.as_f64(),
            Some(Goal::AtLeast(bound)) => value < bound.as_f64(),
        }
    }

    /// The value as people read it.
    pub fn text(&self) -> String {
        self.with_unit(&self.value)
    }

    /// The same, with the least and the most of several rounds.
    pub fn text_with_spread(&self) -> String {
        match self.spread {
            Some([least, most]) => format!("{} ({least} - {most})", self.text()),
            None => self.text(),
        }
    }

    /// A number with the figure's unit.
    pub fn with_unit(&self, number: &Number) -> String {
        format!("{number} {}", self.unit).trim_end().to_owned()
    }
}

/// What a figure should be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Not more than this.
    AtMost(Number),
    /// Not less than this.
    AtLeast(Number),
}

impl Goal {
    /// Not more than this.
    pub fn at_most(bound: impl Into<Value>) -> Self {
        Self::AtMost(bound.into().0)
    }

    /// Not less than this.
    pub fn at_least(bound: impl Into<Value>) -> Self {
        Self::AtLeast(bound.into().0)
    }

    /// As people read it, with the unit of its figure.
    pub fn text(&self, figure: &Figure) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {}", figure.with_unit(bound)),
            Self::AtLeast(bound) => format!(">= {}", figure.with_unit(bound)),
        }
    }
}

/// A number that a figure can have.
#[derive(Clone, Debug)]
pub struct Value(pub Number);

impl From<f64> for Value {
    /// # Panics
    /// If it is not finite, as the ratio to nothing: JSON has no word for it, and any number in its place would meet a goal.
    fn from(value: f64) -> Self {
        assert!(value.is_finite(), "a figure is {value}: something was not measured");
        Self(Number::from_f64(value).unwrap_or_else(|| 0.into()))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self(value.into())
    }
}

/// Time between two lines about the same phase.
const PAUSE: Duration = Duration::from_millis(100);

/// A part of the work that takes long enough to be watched.
pub struct Phase {
    name: String,
    of: usize,
    told: Instant,
}

impl Phase {
    /// Begins one of `of` steps.
    pub fn begin(name: impl Into<String>, of: usize) -> Self {
        let phase = Self { name: name.into(), of, told: Instant::now() };
        phase.tell(0);
        phase
    }

    /// So many steps are done.
    pub fn done(&mut self, steps: usize) {
        if self.told.elapsed() >= PAUSE || steps == self.of {
            self.told = Instant::now();
            self.tell(steps);
        }
    }

    fn tell(&self, done: usize) {
        Line::Phase { phase: self.name.clone(), done: done as u64, of: self.of as u64 }.print();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, goal: Goal) -> Figure {
        Figure {
            section: String::new(),
            figure: "rate".to_owned(),
            case: "IPv4".to_owned(),
            value: Value::from(value).0,
            unit: "x".to_owned(),
            spread: None,
            goal: Some(goal),
        }
    }

    #[test]
    fn a_goal_is_missed_from_its_side() {
        assert!(figure(1.7, Goal::at_most(1.6)).is_missed());
        assert!(!figure(1.6, Goal::at_most(1.6)).is_missed());
        assert!(figure(2.3, Goal::at_least(2.4)).is_missed());
        assert!(!figure(2.4, Goal::at_least(2.4)).is_missed());
        assert_eq!(Goal::at_least(2.4).text(&figure(2.0, Goal::at_least(2.4))), ">= 2.4 x");
    }

    /// The median of no rounds, a time of no packets.
    #[test]
    #[should_panic(expected = "something was not measured")]
    fn what_was_not_measured_meets_no_goal() {
        let figure = figure(f64::NAN, Goal::at_most(1.6));
        assert!(figure.is_missed(), "{}", figure.text());
    }

    #[test]
    fn progress_is_told_apart_from_figures() {
        let line = serde_json::from_str(r#"{"phase": "1000 Services", "done": 12, "of": 1000}"#).unwrap();
        assert!(matches!(line, Line::Phase { done: 12, of: 1000, .. }));
        let line = Line::Figure(figure(1.0, Goal::at_most(6_u64)));
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.contains(r#""goal":{"at_most":6}"#), "{text}");
        assert!(matches!(serde_json::from_str(&text).unwrap(), Line::Figure(_)));
    }
}
