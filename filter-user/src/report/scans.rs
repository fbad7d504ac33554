//! Scans, blocks and reports as text. The JSON form is that of the records themselves.

mod status;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use ipnet::IpNet;

use super::printable;
use super::table::{RED, YELLOW, indent, paint, render as table};
use crate::scans::record::{Alert, BlockRecord, Kind, Origin, Report, ScanRecord, State, Verdict};
pub use status::ScanStatus;
#[cfg(test)]
pub(super) use status::tests as status_tests;

/// A table of scans, in their order.
#[must_use]
pub fn scans(list: &[ScanRecord]) -> String {
    let rows = list.iter().map(|scan| {
        vec![
            printable(&scan.id),
            state(scan.state).to_owned(),
            sources(scan),
            kind(scan.kind).to_owned(),
            patterns(scan),
            verdict(scan.verdict).to_owned(),
            printable(&scan.last_seen),
            scan.ports.to_string(),
            scan.hosts.to_string(),
            scan.packets.to_string(),
        ]
    });
    let header = [
        "scan",
        "state",
        "source",
        "kind",
        "patterns",
        "verdict",
        "last seen",
        "ports",
        "hosts",
        "packets",
    ];
    table(&header, rows, 7)
}

/// All about one scan.
#[must_use]
pub fn scan(scan: &ScanRecord, colour: bool) -> String {
    let shade = match scan.verdict {
        Verdict::Observed => None,
        Verdict::Blocked => Some(RED),
        Verdict::Spared => Some(YELLOW),
    };
    let judged = judged(scan);
    let judged = shade.map_or(judged.clone(), |shade| paint(&judged, shade, colour));
    let list = |items: &[String]| printable(&items.join(", "));
    let counted: Vec<String> = scan
        .patterns
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let hosts: Vec<String> = scan.sample_hosts.iter().map(ToString::to_string).collect();
    let decoys: Vec<String> = scan.decoys.iter().copied().map(source).collect();
    let mut rows = vec![
        ("source", source(scan.source)),
        ("verdict", judged),
        ("patterns", list(&counted)),
        (
            "ports",
            format!("{}, the first {}", scan.ports, list(&scan.sample_ports)),
        ),
        (
            "hosts",
            format!("{}, the first {}", scan.hosts, list(&hosts)),
        ),
        (
            "packets",
            format!(
                "{}, {:.1} a second, by {}",
                scan.packets,
                scan.rate,
                printable(&scan.interface)
            ),
        ),
        (
            "seen",
            format!(
                "from {} to {}",
                printable(&scan.first_seen),
                printable(&scan.last_seen)
            ),
        ),
        (
            "recognised",
            format!("after {} targets", scan.targets_to_open),
        ),
        ("blocks so far", scan.strikes.to_string()),
    ];
    if !decoys.is_empty() {
        let text = format!("{} (sent the same at the same time)", list(&decoys));
        rows.insert(1, ("decoys", text));
    }
    if !scan.hints.is_empty() {
        rows.push(("looks like", format!("{} (no proof)", list(&scan.hints))));
    }
    if scan.shed {
        let text = "probes were shed meanwhile: it may be larger";
        rows.push(("incomplete", paint(text, YELLOW, colour)));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:width$}  {value}");
    }
    format!(
        "scan {}: {}, {}\n{}",
        printable(&scan.id),
        kind(scan.kind),
        state(scan.state),
        indent(&text)
    )
}

/// A table of blocks, in their order.
#[must_use]
pub fn blocks(list: &[BlockRecord]) -> String {
    let rows = list.iter().map(|block| {
        vec![
            source(block.source),
            printable(&block.until),
            left(block),
            origin(block.origin).to_owned(),
            printable(block.scan.as_deref().unwrap_or("-")),
            block.strikes.to_string(),
        ]
    });
    table(
        &["source", "until", "left", "origin", "scan", "strikes"],
        rows,
        5,
    )
}

/// `192.0.2.7 is blocked until 2026-01-01T00:10:00.000Z (10m)`
#[must_use]
pub fn block(block: &BlockRecord) -> String {
    format!(
        "{} is blocked until {} ({})\n",
        source(block.source),
        printable(&block.until),
        left(block)
    )
}

/// One line, without its end. It begins with a time and the report's name.
#[must_use]
pub fn report(report: &Report) -> String {
    match report {
        Report::ScanOpened(scan) => line("scan_opened", scan),
        Report::ScanUpdated(scan) => line("scan_updated", scan),
        Report::ScanClosed(scan) => line("scan_closed", scan),
        Report::Blocked(block) => {
            let scan = match &block.scan {
                Some(scan) => format!(", scan {}", printable(scan)),
                None => String::new(),
            };
            format!(
                "{} blocked {} until {}, by {}, strike {}{scan}",
                printable(&block.since),
                source(block.source),
                printable(&block.until),
                match block.origin {
                    Origin::Scan => "a scan",
                    Origin::Manual => "hand",
                },
                block.strikes,
            )
        }
        Report::Unblocked(block) => format!(
            "{} unblocked {}",
            printable(&block.until),
            source(block.source)
        ),
        Report::Alert(alert) => self::alert(alert),
    }
}

/// `192.0.2.7`, `2001:db8:0:1::/64`
#[must_use]
pub fn source(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

fn line(name: &str, scan: &ScanRecord) -> String {
    let counted = |count: u64, what: &str| {
        if count == 1 {
            format!("1 {what}")
        } else {
            format!("{count} {what}s")
        }
    };
    format!(
        "{} {name} {} {} {} {}: {}, {}, {} by {}: {}{}",
        printable(&scan.last_seen),
        printable(&scan.id),
        sources(scan),
        kind(scan.kind),
        patterns(scan),
        counted(scan.ports, "port"),
        counted(scan.hosts, "host"),
        counted(scan.packets, "packet"),
        printable(&scan.interface),
        judged(scan),
        if scan.shed { "; incomplete" } else { "" },
    )
}

fn alert(alert: &Alert) -> String {
    let about = match (alert.about.as_str(), alert.source) {
        (_, Some(of)) => format!("{} {}", printable(&alert.about), source(of)),
        (_, None) => printable(&alert.about),
    };
    format!(
        "{} alert {about}: {:.1} {unit}, usually {:.1} {unit}",
        printable(&alert.time),
        alert.value,
        alert.baseline,
        unit = printable(&alert.unit),
    )
}

/// `blocked until 2026-01-01T00:10:00.000Z (10 ports within 10 s)`
fn judged(scan: &ScanRecord) -> String {
    let until = match &scan.blocked_until {
        Some(until) => format!(" until {}", printable(until)),
        None => String::new(),
    };
    let because = if scan.because.is_empty() {
        String::new()
    } else {
        format!(" ({})", printable(&scan.because))
    };
    format!("{}{until}{because}", verdict(scan.verdict))
}

/// `192.0.2.7 and 5 decoys`
fn sources(scan: &ScanRecord) -> String {
    match scan.decoys.len() {
        0 => source(scan.source),
        1 => format!("{} and 1 decoy", source(scan.source)),
        count => format!("{} and {count} decoys", source(scan.source)),
    }
}

/// The most frequent first.
fn patterns(scan: &ScanRecord) -> String {
    let mut patterns: Vec<_> = scan.patterns.iter().collect();
    patterns.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let names: Vec<&str> = patterns.iter().map(|(name, _)| name.as_str()).collect();
    printable(&names.join(","))
}

fn left(block: &BlockRecord) -> String {
    humantime::format_duration(Duration::from_secs(block.seconds_left)).to_string()
}

fn state(state: State) -> &'static str {
    match state {
        State::Open => "open",
        State::Closed => "closed",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::PortScan => "port_scan",
        Kind::Sweep => "sweep",
        Kind::Both => "both",
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Observed => "observed",
        Verdict::Blocked => "blocked",
        Verdict::Spared => "spared",
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Scan => "scan",
        Origin::Manual => "manual",
    }
}
