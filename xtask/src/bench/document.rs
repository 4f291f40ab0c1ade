//! The figures as files: JSON, Markdown and plots.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};

use super::{
    figures::{Figures, MARKDOWN},
    plot,
};
use crate::{process, ui};

/// Names of the files.
const NAME: &str = "data-path";

/// A plot: its file, its title, and the figures of which it shows all cases, by section and name.
type Plot = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PLOTS: [Plot; 3] = [
    (
        "packets",
        "Packets per second of one core: UDP, 60 bytes, 1000 flows (million)",
        &[("pps, net1 a macvlan", "1000 flows"), ("pps, net1 a veth", "1000 flows")],
    ),
    (
        "latency",
        "Latency, 99 % of the packets, at 90 % of what iptables-legacy can do",
        &[("latency, net1 a macvlan", "90 % of iptables-legacy: p99")],
    ),
    (
        "cpu",
        "Time of the pod's core for a packet, the sink's included",
        &[("CPU, net1 a macvlan", "time of the pod's core for a packet, sink included")],
    ),
];

/// Writes all of them into `folder`.
///
/// # Errors
/// If one cannot be written.
pub fn write(folder: &Path, figures: &Figures, machine: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let put = |extension: &str, text: String| {
        let file = folder.join(NAME).with_extension(extension);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    };
    put("json", format!("{}\n", figures.json(machine)))?;
    put("md", markdown(figures, machine))?;
    for (name, title, rows) in PLOTS {
        let shown: Vec<_> = rows.iter().flat_map(|(section, row)| figures.row(section, row)).collect();
        if !shown.is_empty() {
            plot::bars(&folder.join(name).with_extension("svg"), title, &shown)?;
        }
    }
    ui::ok(&format!("figures and plots in {}", process::shorten(folder)));
    Ok(())
}

fn markdown(figures: &Figures, machine: &str) -> String {
    let mut text = format!(
        "# Figures of the data path\n\nWritten by `cargo xtask bench all`; what they mean is said in [performance.md](../performance.md).\n\n\
         {machine}\n\nOf several rounds, the median, and in parentheses the least and the most.\n"
    );
    // Writing into a string cannot fail.
    for (section, table) in figures.tables(MARKDOWN) {
        let _ = write!(text, "\n## {}\n\n{table}\n", capitalised(section));
    }
    if let Some(goals) = figures.goals(MARKDOWN) {
        let _ = write!(text, "\n## Goals\n\n{goals}\n");
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_files() {
        let mut figures = Figures::default();
        let line = r#"{"section": "pps, net1 a veth", "figure": "1000 flows", "case": "sluice XDP", "value": 2.6, "unit": "M/s",
            "spread": [2.4, 2.7]}"#;
        figures.add(serde_json::from_str(line).unwrap());
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &figures, "a machine").unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("data-path.md").contains("| 2.6 M/s (2.4 - 2.7) |"), "{}", read("data-path.md"));
        assert!(read("data-path.json").contains("\"spread\":[2.4,2.7]"));
        let plot = read("packets.svg");
        assert!(plot.contains("sluice XDP, veth") && plot.contains("2.6 M/s"), "{plot}");
        assert!(!folder.path().join("latency.svg").exists());
    }
}
