//! What is told to xtask: one JSON object a line, on standard output.
//!
//! ```json
//! {"phase": "1000 Services", "done": 12, "of": 1000}
//! {"figure": "writes for a Service, at most", "case": "IPv4", "value": 6, "unit": "", "goal": 6}
//! ```
//!
//! A phase goes on until another begins. A figure with a goal must not be more than that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
        println!("{}", json!({ "phase": self.name, "done": done, "of": self.of }));
    }
}

/// What came out, of one case.
pub struct Figures(pub &'static str);

impl Figures {
    /// A figure for information.
    pub fn tell(&self, figure: &str, value: impl Into<Value>, unit: &str) {
        self.print(figure, value.into(), unit, None);
    }

    /// A figure that must not be more than `goal`.
    pub fn judge(&self, figure: &str, value: impl Into<Value>, unit: &str, goal: u64) {
        self.print(figure, value.into(), unit, Some(goal));
    }

    fn print(&self, figure: &str, value: Value, unit: &str, goal: Option<u64>) {
        println!(
            "{}",
            json!({ "figure": figure, "case": self.0, "value": value, "unit": unit, "goal": goal })
        );
    }
}

/// With one digit after the point: nothing that is measured here is more precise.
pub fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
