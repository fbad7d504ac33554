//! The table `events` as it is written. Reports wrong shapes only.

use super::super::keys::{EVENTS_KEYS, FILE_KEYS};
use super::super::source::Report;
use super::super::table::Table;
use super::Texts;
use super::scans::{RawFile, inner, raw_file};

#[derive(Default)]
pub(in super::super) struct RawEvents {
    pub(in super::super) enabled: Option<bool>,
    pub(in super::super) reasons: Option<Texts>,
    pub(in super::super) interfaces: Option<Texts>,
    pub(in super::super) file: Option<RawFile>,
}

/// Reads `[events]`.
pub(super) fn events(policy: &Table<'_>, report: &mut Report) -> RawEvents {
    let Some(table) = inner(policy, ("events", "events"), EVENTS_KEYS, report) else {
        return RawEvents::default();
    };
    let file = inner(&table, ("file", "events.file"), FILE_KEYS, report);
    RawEvents {
        enabled: table.flag("enabled", report),
        reasons: table.texts("reasons", report),
        interfaces: table.texts("interfaces", report),
        file: file.map(|table| raw_file(&table, report)),
    }
}
