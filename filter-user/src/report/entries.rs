//! Run-time entries as text.

use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scans::source;
use super::{printable, table};
use crate::entries::Ports;
use crate::entries::record::EntryRecord;

/// How many entries there are, as `edgefilter status` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryStatus {
    /// Entries that let in, those to come included.
    pub allow: usize,
    /// Entries that keep out, those to come included.
    pub deny: usize,
    /// Most of both kinds together.
    pub limit: usize,
}

impl EntryStatus {
    pub(super) fn render(&self, text: &mut String) {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "entries: {} to let in, {} to keep out, of at most {}",
            self.allow, self.deny, self.limit
        );
    }
}

/// A line for each.
#[must_use]
pub fn entries(list: &[EntryRecord]) -> String {
    let rows = list.iter().map(|entry| {
        vec![
            source(entry.source),
            ports(&entry.ports),
            printable(&entry.until),
            left(entry),
            printable(&entry.actor.name),
            printable(&entry.comment),
        ]
    });
    let header = ["source", "ports", "until", "left", "by", "comment"];
    table::render(&header, rows, header.len())
}

/// `allow 198.51.100.0/24 tcp/443 until 2026-01-01T00:10:00.000Z (10m)`
#[must_use]
pub fn entry(entry: &EntryRecord) -> String {
    format!(
        "{} {} {} until {} ({})\n",
        entry.kind,
        source(entry.source),
        ports(&entry.ports),
        printable(&entry.until),
        left(entry)
    )
}

fn ports(ports: &[Ports]) -> String {
    if ports.is_empty() {
        return "all".to_owned();
    }
    let ports: Vec<String> = ports.iter().map(Ports::to_string).collect();
    ports.join(",")
}

/// How long it goes on; of one that is still to come, when it begins.
fn left(entry: &EntryRecord) -> String {
    match &entry.from {
        Some(from) if !entry.active => format!("from {}", printable(from)),
        _ => humantime::format_duration(Duration::from_secs(entry.seconds_left)).to_string(),
    }
}
