//! The figures, as a table for people or as one JSON document.

use std::fmt::Write as _;

use serde::Serialize;

use super::loading::Loading;
use super::measure::{Effort, Samples, Subject};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Rounds and repetitions behind `packets`, then behind `sources`.
    pub effort: [Effort; 2],
    /// Cost per packet.
    pub packets: Vec<Row>,
    /// Cost per packet behind a program that sets the source address.
    pub sources: Vec<Row>,
    /// What we want to hold.
    pub goals: Vec<Goal>,
    /// Time to put sets of prefixes in force.
    pub loading: Vec<Loading>,
}

/// What the figures depend on.
#[derive(Debug, Serialize)]
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

/// One subject's figures.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Stable name.
    pub id: &'static str,
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

/// A ratio and its limit.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What is compared.
    pub what: String,
    /// What was seen.
    pub value: f64,
    /// What it must not pass (`at_least`: what it must reach).
    pub limit: f64,
    /// Which way the limit holds.
    pub at_least: bool,
    /// Whether it holds.
    pub met: bool,
}

impl Goal {
    /// `value` is to be at most `limit`.
    pub fn at_most(what: &str, value: f64, limit: f64) -> Self {
        Self {
            what: what.to_owned(),
            value,
            limit,
            at_least: false,
            met: value <= limit,
        }
    }

    /// `value` is to be at least `limit`.
    pub fn at_least(what: &str, value: f64, limit: f64) -> Self {
        Self {
            what: what.to_owned(),
            value,
            limit,
            at_least: true,
            met: value >= limit,
        }
    }

    /// One line.
    pub fn text(&self) -> String {
        let (sign, verdict) = (
            if self.at_least { ">=" } else { "<=" },
            if self.met { "yes" } else { "NO" },
        );
        format!(
            "{verdict:<3} {:<74} {:>6.2} {sign} {}\n",
            self.what, self.value, self.limit
        )
    }
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
                id: subject.id,
                what: subject.what.clone(),
                median: own.median(),
                lower: own.quantile(0.25),
                upper: own.quantile(0.75),
                net: own.median() - floor,
            }
        })
        .collect()
}

fn table(text: &mut String, title: &str, effort: Effort, rows: &[Row]) {
    let Effort { rounds, repeat } = effort;
    let _ = writeln!(
        text,
        "\n{title}; {rounds} rounds of {repeat} packets\n{:<58} {:>7} {:>15} {:>7}",
        "", "median", "quartiles", "net"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<58} {:>7.1} {:>7.1} {:>7.1} {:>7.1}",
            row.what, row.median, row.lower, row.upper, row.net
        );
    }
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.machine.text();
        table(
            &mut text,
            "ns a packet (net: less the empty program)",
            self.effort[0],
            &self.packets,
        );
        let title = "ns a packet, source address set by a program in front (net: less the same before an empty program)";
        table(&mut text, title, self.effort[1], &self.sources);
        if !self.loading.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<24} {:>12} {:>12} {:>12}",
                "seconds to load", "check", "push", "nft -f"
            );
            for row in &self.loading {
                let _ = writeln!(
                    text,
                    "{:>8} prefixes        {:>12.3} {:>12.3} {:>12.3}",
                    row.prefixes, row.compile, row.push, row.nft
                );
            }
        }
        text.push('\n');
        for goal in &self.goals {
            text.push_str(&goal.text());
        }
        text
    }
}
