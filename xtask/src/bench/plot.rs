//! Bars, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    prelude::{
        Color as _, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle, SVGBackend, Text, WHITE,
    },
    style::text_anchor::{HPos, Pos, VPos},
};
use sluice_figures::Figure;

const WIDTH: i32 = 800;
/// Height of the title, and of each bar with its gap.
const TITLE: i32 = 48;
const BAR: i32 = 30;
/// Where bars begin and where the longest ends; left and right of them is text.
const LEFT: i32 = 230;
const RIGHT: i32 = 640;

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xaa, 0xaa, 0xaa);
const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);

/// Writes a drawing with a bar for each figure, and a line from its least to its most.
///
/// # Errors
/// If the file cannot be written.
pub fn bars(file: &Path, title: &str, figures: &[(String, &Figure)]) -> Result<()> {
    let height = TITLE + BAR * i32::try_from(figures.len())? + BAR / 2;
    let root = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let text = |size: i32, right: bool| {
        let side = if right { HPos::Right } else { HPos::Left };
        ("sans-serif", size).into_font().color(&TEXT).pos(Pos::new(side, VPos::Center))
    };
    root.draw(&Text::new(title, (16, TITLE / 2), text(17, false))).map_err(|error| failed(&error))?;
    let most = figures.iter().map(|(_, figure)| end(figure)).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| LEFT + (value / most * f64::from(RIGHT - LEFT)).round() as i32;
    for (index, (name, figure)) in figures.iter().enumerate() {
        let top = TITLE + BAR * i32::try_from(index)?;
        let middle = top + BAR / 2;
        let value = figure.value.as_f64().unwrap_or_default();
        let color = if name.starts_with("sluice") { OURS } else { OTHERS };
        let bar = Rectangle::new([(LEFT, top + 5), (x(value), top + BAR - 5)], color.filled());
        root.draw(&bar).map_err(|error| failed(&error))?;
        if let Some([least, most]) = figure.spread {
            let line = Rectangle::new([(x(least), middle - 1), (x(most), middle + 1)], TEXT.filled());
            root.draw(&line).map_err(|error| failed(&error))?;
        }
        root.draw(&Text::new(name.as_str(), (LEFT - 10, middle), text(14, true)))
            .map_err(|error| failed(&error))?;
        root.draw(&Text::new(figure.text(), (x(end(figure)) + 8, middle), text(14, false)))
            .map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

/// Where a figure's drawing ends.
fn end(figure: &Figure) -> f64 {
    let value = figure.value.as_f64().unwrap_or_default();
    figure.spread.map_or(value, |[_, most]| value.max(most))
}
