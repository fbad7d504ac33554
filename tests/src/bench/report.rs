//! Figures as tables: for a terminal, and as cells for the document.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{CellAlignment, presets};
use serde::Serialize;

use super::arguments::Bench;
use super::document::{Chart, Document, Goal, Section, Table};
use super::goals::Measured;
use super::measure::{Effort, Samples, Subject};

pub use super::document::Machine;

/// What a bench hands over beside its figures.
#[derive(Debug, Default)]
pub struct Shown {
    /// For people.
    pub tables: Vec<Table>,
    /// The same, drawn.
    pub charts: Vec<Chart>,
    /// Lines for a terminal, where there are no tables.
    pub text: String,
    /// What goals are judged by.
    pub measured: Vec<Measured>,
}

/// One bench's part of the document.
pub fn section<T: Serialize>(bench: Bench, figures: &T, shown: Shown) -> Result<Section> {
    let measured = shown.measured.into_iter();
    Ok(Section {
        bench: bench.name(),
        tables: shown.tables,
        charts: shown.charts,
        text: shown.text,
        measured: measured
            .map(|(id, value)| (id.to_owned(), value))
            // JSON has no word for "not a number": what is not there was not measured
            .filter(|(_, value)| value.is_finite())
            .collect::<BTreeMap<_, _>>(),
        figures: serde_json::to_value(figures)?,
    })
}

/// One subject's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Stable name.
    pub id: String,
    /// For people.
    pub what: String,
    /// Median nanoseconds a packet.
    pub median: f64,
    /// Lower quartile.
    pub lower: f64,
    /// Upper quartile.
    pub upper: f64,
    /// Median less that of the program that does everything but the work in question.
    pub net: f64,
}

/// Sums the samples up.
pub fn rows(subjects: &[Subject<'_>], samples: &[Samples]) -> Vec<Row> {
    subjects
        .iter()
        .zip(samples)
        .map(|(subject, own)| {
            let floor = subject
                .floor
                .and_then(|floor| samples.get(floor))
                .map_or(0.0, Samples::median);
            Row {
                id: subject.id.clone(),
                what: subject.what.clone(),
                median: own.median(),
                lower: own.quantile(0.25),
                upper: own.quantile(0.75),
                net: own.median() - floor,
            }
        })
        .collect()
}

/// A table of rows. `beside` names the row that a row is compared with, by id.
pub fn table(
    title: &str,
    effort: Effort,
    rows: &[Row],
    beside: impl Fn(&str) -> Option<&'static str>,
) -> Table {
    let Effort { rounds, repeat } = effort;
    let compared = |row: &Row| {
        let other = beside(&row.id)?;
        let other = rows.iter().find(|row| row.id == other)?;
        Some(format!("{:.2}", row.median / other.median))
    };
    let any = rows.iter().any(|row| compared(row).is_some());
    let mut columns = vec!["program and packet", "median", "quartiles", "net"];
    if any {
        columns.push("of xdp-filter");
    }
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            row.what.clone(),
            format!("{:.1}", row.median),
            format!("{:.1}-{:.1}", row.lower, row.upper),
            format!("{:.1}", row.net),
        ];
        if any {
            cells.push(compared(row).unwrap_or_default());
        }
        cells
    });
    Table {
        title: format!(
            "{title}; {rounds} rounds of {} packets",
            grouped(repeat.into())
        ),
        columns: columns.into_iter().map(str::to_owned).collect(),
        rows: cells.collect(),
    }
}

/// For people.
pub fn text(document: &Document) -> String {
    let mut text = document.machine.text();
    for section in &document.sections {
        for table in &section.tables {
            let _ = write!(text, "\n{}\n{}", table.title, aligned(table));
        }
        if section.tables.is_empty() {
            let _ = write!(text, "\n{}", section.text);
        }
    }
    if !document.goals.is_empty() {
        let goals = goals(&document.goals);
        let _ = write!(text, "\n{}\n{}", goals.title, aligned(&goals));
    }
    text
}

fn goals(goals: &[Goal]) -> Table {
    let columns = ["goal", "", "seen", "wanted", "met"];
    let rows = goals.iter().map(|goal| {
        let value = goal
            .value
            .map_or("nothing".to_owned(), |value| format!("{value:.3}"));
        let sign = if goal.at_least { "at least" } else { "at most" };
        vec![
            goal.id.clone(),
            goal.what.clone(),
            value,
            format!("{sign} {}", goal.limit),
            if goal.met { "yes" } else { "NO" }.to_owned(),
        ]
    });
    Table {
        title: "goals".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// Columns of equal width, numbers to the right.
fn aligned(table: &Table) -> String {
    let mut shown = comfy_table::Table::new();
    shown.load_style(presets::NOTHING);
    shown.set_header(&table.columns);
    shown.add_rows(&table.rows);
    for (place, column) in shown.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let numbers = table.rows.iter().all(|row| {
            let cell = row.get(place).map_or("", String::as_str);
            cell.is_empty()
                || cell.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        });
        if numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = shown.trim_fmt();
    text.push('\n');
    text
}

/// With commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [1, 999, 1000, 10_000_000].map(grouped),
            ["1", "999", "1,000", "10,000,000"]
        );
    }
}
