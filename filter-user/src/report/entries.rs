//! Run-time entries as text.

use std::time::Duration;

use super::scans::source;
use super::{printable, table};
use crate::entries::Ports;
use crate::entries::record::EntryRecord;

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
