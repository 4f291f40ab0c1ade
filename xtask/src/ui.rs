//! What the commands say. Colours appear on a terminal only, and never with `NO_COLOR`.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice, eprintln, println};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();

/// The form of a command's result.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For scripts: one value, on the last line of standard output
    Json,
}

/// Does standard output take colours?
pub fn has_colors() -> bool {
    AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// Begins a part of a command's work.
pub fn heading(text: &str) {
    println!("\n{BOLD}{text}{BOLD:#}");
}

/// A command line that is about to run.
pub fn command(line: &str) {
    println!("{DIM}$ {line}{DIM:#}");
}

/// Something that was checked and is in order.
pub fn ok(text: &str) {
    println!("{GREEN}ok{GREEN:#}    {text}");
}

/// Something the reader should know and need not act on.
pub fn note(text: &str) {
    println!("{YELLOW}note{YELLOW:#}  {text}");
}

/// Why a command failed, with every cause on its own line.
pub fn error(error: &anyhow::Error) {
    eprintln!("\n{RED}error{RED:#}: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {}", cause.to_string().replace('\n', "\n           "));
    }
}

/// Ends a command: what to do with its result, as pairs of a command line and its meaning.
pub fn next(steps: &[(&str, &str)]) {
    let width = steps.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    println!("\n{BOLD}Next{BOLD:#}");
    for (line, meaning) in steps {
        println!("  {line:width$}  {DIM}{meaning}{DIM:#}");
    }
}

/// A time as people read it: `0.8 s`, `42 s`, `3 min 07 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// Shows that long work goes on: a spinner with the latest line of output on a terminal, a plain line now and then
/// where there is none (the log of a CI run).
pub struct Progress {
    what: String,
    started: Instant,
    last_sign: Instant,
    bar: ProgressBar,
}

impl Progress {
    /// How long a log without a terminal may stay silent.
    const SILENCE: Duration = Duration::from_secs(30);

    /// Begins to show progress on `what`.
    pub fn start(what: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner:.green} {prefix} [{elapsed}] {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        let now = Instant::now();
        Self { what: what.to_owned(), started: now, last_sign: now, bar }
    }

    /// Takes note of a line of output.
    pub fn line(&mut self, line: &str) {
        self.bar.set_message(line.trim().to_owned());
        if self.bar.is_hidden() && self.last_sign.elapsed() > Self::SILENCE {
            self.last_sign = Instant::now();
            println!("      {}: {} so far: {}", self.what, duration(self.started.elapsed()), line.trim());
        }
    }

    /// So many steps `of` all are done.
    pub fn step(&mut self, done: u64, of: u64) {
        if self.bar.length() != Some(of) {
            let template = "{prefix} [{elapsed}] {wide_bar:.green} {pos}/{len}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_length(of);
        }
        self.bar.set_position(done);
        self.line(&format!("{done} of {of}"));
    }

    /// Ends the display and says how long the work took.
    pub fn done(self) {
        self.bar.finish_and_clear();
        ok(&format!("{} ({})", self.what, duration(self.started.elapsed())));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(840)), "0.8 s");
        assert_eq!(duration(Duration::from_millis(42_900)), "42 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
    }
}
