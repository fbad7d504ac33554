//! The tables `scans` and `report` as they are written. Reports wrong shapes only.

use toml::Spanned;

use super::super::keys::{
    ALERTS_KEYS, FILE_KEYS, Key, NFTABLES_KEYS, REPORT_KEYS, SCANS_KEYS, SYSLOG_KEYS,
    THRESHOLD_KEYS, THRESHOLDS_KEYS, WEBHOOK_KEYS,
};
use super::super::source::Report;
use super::super::table::Table;
use super::Texts;

#[derive(Default)]
pub(in super::super) struct RawScans {
    pub(in super::super) sensitivity: Option<Spanned<String>>,
    pub(in super::super) action: Option<Spanned<String>>,
    pub(in super::super) block_for: Option<Spanned<String>>,
    pub(in super::super) block_at_most: Option<Spanned<String>>,
    pub(in super::super) blocks_per_minute: Option<Spanned<i64>>,
    pub(in super::super) verified: Option<Spanned<String>>,
    pub(in super::super) exempt: Option<Texts>,
    pub(in super::super) never_block: Option<Texts>,
    /// In the order of `THRESHOLDS_KEYS`.
    pub(in super::super) thresholds: [RawThreshold; 3],
}

#[derive(Default)]
pub(in super::super) struct RawThreshold {
    pub(in super::super) within: Option<Spanned<String>>,
    pub(in super::super) ports: Option<Spanned<i64>>,
    pub(in super::super) hosts: Option<Spanned<i64>>,
}

#[derive(Default)]
pub(in super::super) struct RawReport {
    pub(in super::super) kinds: Option<Texts>,
    pub(in super::super) nftables: Option<RawNftables>,
    pub(in super::super) file: Option<RawFile>,
    pub(in super::super) syslog: bool,
    pub(in super::super) webhook: Option<RawWebhook>,
    pub(in super::super) alerts: Option<RawAlerts>,
}

pub(in super::super) struct RawNftables {
    pub(in super::super) drop: Option<Spanned<bool>>,
}

pub(in super::super) struct RawFile {
    pub(in super::super) path: Option<Spanned<String>>,
    pub(in super::super) max_mib: Option<Spanned<i64>>,
    pub(in super::super) keep: Option<Spanned<i64>>,
}

pub(in super::super) struct RawWebhook {
    pub(in super::super) url: Option<Spanned<String>>,
    pub(in super::super) secret_file: Option<Spanned<String>>,
    pub(in super::super) queue: Option<Spanned<i64>>,
}

pub(in super::super) struct RawAlerts {
    pub(in super::super) factor: Option<Spanned<f64>>,
    pub(in super::super) drops_per_second: Option<Spanned<i64>>,
    pub(in super::super) scans_per_minute: Option<Spanned<i64>>,
    pub(in super::super) source_per_second: Option<Spanned<i64>>,
    pub(in super::super) quiet: Option<Spanned<String>>,
}

/// The table `name` of another one, if it is there and is one; `place` is what messages call it.
pub(super) fn inner<'t>(
    outer: &Table<'t>,
    (name, place): (&str, &str),
    keys: &'static [Key],
    report: &mut Report,
) -> Option<Table<'t>> {
    let (body, span) = outer.table(name, report)?;
    Some(Table::new(body, span, format!("`{place}`"), keys, report))
}

/// Reads `[scans]`.
pub(super) fn scans(policy: &Table<'_>, report: &mut Report) -> RawScans {
    let Some(table) = inner(policy, ("scans", "scans"), SCANS_KEYS, report) else {
        return RawScans::default();
    };
    let place = ("thresholds", "scans.thresholds");
    let thresholds = match inner(&table, place, THRESHOLDS_KEYS, report) {
        Some(table) => [
            threshold(&table, ("fast", "scans.thresholds.fast"), report),
            threshold(&table, ("medium", "scans.thresholds.medium"), report),
            threshold(&table, ("slow", "scans.thresholds.slow"), report),
        ],
        None => Default::default(),
    };
    RawScans {
        sensitivity: table.text("sensitivity", report),
        action: table.text("action", report),
        block_for: table.text("block_for", report),
        block_at_most: table.text("block_at_most", report),
        blocks_per_minute: table.integer("blocks_per_minute", report),
        verified: table.text("verified", report),
        exempt: table.texts("exempt", report),
        never_block: table.texts("never_block", report),
        thresholds,
    }
}

fn threshold(thresholds: &Table<'_>, place: (&str, &str), report: &mut Report) -> RawThreshold {
    let Some(table) = inner(thresholds, place, THRESHOLD_KEYS, report) else {
        return RawThreshold::default();
    };
    RawThreshold {
        within: table.text("within", report),
        ports: table.integer("ports", report),
        hosts: table.integer("hosts", report),
    }
}

/// Reads `[report]`.
pub(super) fn report(policy: &Table<'_>, report: &mut Report) -> RawReport {
    let Some(outer) = inner(policy, ("report", "report"), REPORT_KEYS, report) else {
        return RawReport::default();
    };
    let nftables = inner(
        &outer,
        ("nftables", "report.nftables"),
        NFTABLES_KEYS,
        report,
    );
    let file = inner(&outer, ("file", "report.file"), FILE_KEYS, report);
    let syslog = inner(&outer, ("syslog", "report.syslog"), SYSLOG_KEYS, report);
    let webhook = inner(&outer, ("webhook", "report.webhook"), WEBHOOK_KEYS, report);
    let alerts = inner(&outer, ("alerts", "report.alerts"), ALERTS_KEYS, report);
    RawReport {
        kinds: outer.texts("kinds", report),
        nftables: nftables.map(|table| RawNftables {
            drop: table.spanned_flag("drop", report),
        }),
        file: file.map(|table| raw_file(&table, report)),
        syslog: syslog.is_some(),
        webhook: webhook.map(|table| {
            table.require("url", report);
            RawWebhook {
                url: table.text("url", report),
                secret_file: table.text("secret_file", report),
                queue: table.integer("queue", report),
            }
        }),
        alerts: alerts.map(|table| RawAlerts {
            factor: table.decimal("factor", report),
            drops_per_second: table.integer("drops_per_second", report),
            scans_per_minute: table.integer("scans_per_minute", report),
            source_per_second: table.integer("source_per_second", report),
            quiet: table.text("quiet", report),
        }),
    }
}

/// Reads `[report.file]` or `[events.file]`.
pub(super) fn raw_file(table: &Table<'_>, report: &mut Report) -> RawFile {
    table.require("path", report);
    RawFile {
        path: table.text("path", report),
        max_mib: table.integer("max_mib", report),
        keep: table.integer("keep", report),
    }
}
