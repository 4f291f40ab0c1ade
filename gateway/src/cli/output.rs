//! Tables for people, JSON for machines.

use std::io::{self, Write};
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, coloured on a terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Prints `text`.
pub fn print(text: &str) -> Result<()> {
    ignore_broken_pipe(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints `value` as one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    print(&text)
}

/// The result of writing to standard output. A reader that has gone away, as in `| head`, is no error.
pub fn ignore_broken_pipe(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

/// A table without lines, headers in capitals, or none; `>` before a header aligns its column to the right.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if headers.is_empty() {
        return table;
    }
    table.set_header(
        headers.iter().map(|header| Cell::new(header.trim_start_matches('>')).add_attribute(Attribute::Bold)),
    );
    for (column, header) in table.column_iter_mut().zip(headers) {
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table as text, every line ended and without blanks at its end.
pub fn lines(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The items with commas between them, or what to say if there are none.
pub fn joined(items: impl IntoIterator<Item: ToString>, none: &str) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { none.to_owned() } else { items.join(", ") }
}

/// Green when it is as it should be, else red.
pub fn good(text: impl ToString, good: bool) -> Cell {
    Cell::new(text).fg(if good { Color::Green } else { Color::Red })
}

/// Bytes with a binary unit: `17 B`, `1.5 KiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would print as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as the two largest units: `4s`, `2m 3s`, `5days`.
pub fn seconds(count: u64) -> String {
    let step = match count {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    humantime::format_duration(std::time::Duration::from_secs(count / step * step)).to_string()
}

/// How long ago `time` was.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    match now.duration_since(time) {
        Ok(passed) => format!("{} ago", seconds(passed.as_secs())),
        Err(_ahead) => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_to_four_digits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn seconds_drop_what_nobody_reads() {
        for (count, text) in [(0, "0s"), (59, "59s"), (123, "2m 3s"), (3_723, "1h 2m"), (90_061, "1day 1h")] {
            assert_eq!(seconds(count), text);
        }
    }

    #[test]
    fn tables_align_and_end_without_blanks() {
        let mut table = table(&["NAME", ">COUNT"]);
        table.add_row(["a", "1"]);
        table.add_row(["long name", "12345"]);
        assert_eq!(lines(table), "NAME       COUNT\na              1\nlong name  12345\n");
    }
}
