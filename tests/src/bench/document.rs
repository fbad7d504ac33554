//! The document that a run leaves behind, and that tables, documents and charts are made from. One definition for the
//! program that writes it and the command that reads it; knows nothing of what was measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Where.
    pub machine: Machine,
    /// The source code's commit, `-dirty` behind it if there were changes.
    pub commit: String,
    /// When it began, RFC 3339 in UTC.
    pub date: String,
    /// Whether rounds were few and short.
    pub quick: bool,
    /// What was measured, by bench.
    pub sections: Vec<Section>,
    /// What is promised of it.
    pub goals: Vec<Goal>,
}

/// What the figures depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// Processors online.
    pub processors: usize,
    /// xdp-filter's version.
    pub xdp_filter: String,
}

impl Machine {
    /// One line.
    pub fn text(&self) -> String {
        format!(
            "Linux {}, {} ({} online), xdp-filter {}\n",
            self.kernel, self.processor, self.processors, self.xdp_filter
        )
    }
}

/// What one bench saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    /// The bench's name.
    pub bench: String,
    /// For people. A section without tables has only `text`.
    pub tables: Vec<Table>,
    /// The same, drawn.
    pub charts: Vec<Chart>,
    /// Lines for a terminal, where there are no tables.
    pub text: String,
    /// What goals are judged by.
    pub measured: BTreeMap<String, f64>,
    /// Everything, as the bench has it.
    pub figures: Value,
}

/// Figures for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// What it shows, with units.
    pub title: String,
    /// One for each cell of a row; the first column says what the row is about.
    pub columns: Vec<String>,
    /// Cells as they are shown.
    pub rows: Vec<Vec<String>>,
}

/// Lines over sizes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chart {
    /// The file's name, without its ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What grows to the right, by decades.
    pub x: String,
    /// What grows upwards, with its unit.
    pub y: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a chart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Size and figure, by size.
    pub points: Vec<(f64, f64)>,
}

/// A promise, and what was seen of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    /// Stable name, as in tests/bench-limits.toml.
    pub id: String,
    /// The bench that measures it.
    pub bench: String,
    /// What is compared.
    pub what: String,
    /// What was seen; `None` if the bench did not say.
    pub value: Option<f64>,
    /// What it must not pass (`at_least`: what it must reach).
    pub limit: f64,
    /// Which way the limit holds.
    pub at_least: bool,
    /// Whether it holds.
    pub met: bool,
    /// Where it is promised.
    pub promise: String,
}
