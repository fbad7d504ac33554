//! Reports to the system log, one line each (RFC 3164 to /dev/log, which journald serves too).
//!
//! Owns the socket. Must never let anything from the network begin a line of its own: control characters are shown as `?`.

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use super::queue::{Queue, Turn};
use crate::scans::record::{Alert, BlockRecord, Kind, Report, ScanRecord, Verdict};

/// Reports between two words to the queue.
const BATCH: usize = 64;
/// Before another try.
const PAUSE: Duration = Duration::from_secs(1);

/// A log that has not taken a line by then is called stuck.
const LIMIT: Duration = Duration::from_secs(5);

type Connection = Logger<LoggerBackend, Formatter3164>;

/// A thread: a system log that does not read makes its senders wait.
pub(super) fn start(path: PathBuf, queue: Arc<Queue<Report>>, turn: Turn) {
    let worker = {
        let queue = Arc::clone(&queue);
        move || run(&path, &queue, turn)
    };
    let started = std::thread::Builder::new().name("reports-syslog".to_owned());
    if let Err(error) = started.spawn(worker) {
        queue.failed(turn, 0, format!("cannot start a thread: {error}"));
    }
}

fn run(path: &Path, queue: &Queue<Report>, turn: Turn) {
    let mut connection = None;
    while let Some(reports) = queue.take(turn, BATCH) {
        let mut sent = 0;
        let outcome = reports.iter().try_for_each(|report| {
            // a log that was restarted has another socket: then once more
            if connection.is_none() || write(&mut connection, report).is_err() {
                connection = Some(connect(path)?);
                write(&mut connection, report)?;
            }
            sent += 1;
            Ok(())
        });
        match outcome {
            Ok(()) => queue.done(turn),
            Err(error) => {
                connection = None;
                let error: syslog::Error = error;
                let error = format!("cannot write to {}: {}", path.display(), describe(&error));
                queue.failed(turn, sent, error);
                if !queue.pause(turn, PAUSE) {
                    return;
                }
            }
        }
    }
}

fn connect(path: &Path) -> syslog::Result<Connection> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "edgefilter".to_owned(),
        pid: std::process::id(),
    };
    let logger = syslog::unix_custom(formatter, path)?;
    let limit = Some(LIMIT);
    match &logger.backend {
        LoggerBackend::Unix(socket) => socket.set_write_timeout(limit)?,
        LoggerBackend::UnixStream(socket) => socket.get_ref().set_write_timeout(limit)?,
        LoggerBackend::Udp(..) | LoggerBackend::Tcp(_) => {}
    }
    Ok(logger)
}

fn write(connection: &mut Option<Connection>, report: &Report) -> syslog::Result<()> {
    let Some(logger) = connection else {
        return Ok(());
    };
    let line = line(report);
    if is_warning(report) {
        logger.warning(line)
    } else {
        logger.info(line)
    }
}

fn describe(error: &syslog::Error) -> String {
    match error {
        syslog::Error::Write(error) | syslog::Error::Io(error) => error.to_string(),
        syslog::Error::Initialization(error) => error.to_string(),
    }
}

fn is_warning(report: &Report) -> bool {
    match report {
        Report::ScanOpened(_) | Report::Blocked(_) | Report::Alert(_) => true,
        Report::ScanUpdated(_) | Report::ScanClosed(_) | Report::Unblocked(_) => false,
    }
}

/// `scan_opened id=... source=...`: a word, then pairs that scripts can split.
fn line(report: &Report) -> String {
    match report {
        Report::ScanOpened(scan) => scan_line("scan_opened", scan),
        Report::ScanUpdated(scan) => scan_line("scan_updated", scan),
        Report::ScanClosed(scan) => scan_line("scan_closed", scan),
        Report::Blocked(block) => block_line("blocked", block),
        Report::Unblocked(block) => block_line("unblocked", block),
        Report::Alert(alert) => alert_line(alert),
    }
}

fn scan_line(event: &str, scan: &ScanRecord) -> String {
    let mut line = Line::new(event);
    line.pair("id", &scan.id);
    line.pair("source", shown(scan.source));
    let kind = match scan.kind {
        Kind::PortScan => "port_scan",
        Kind::Sweep => "sweep",
        Kind::Both => "both",
    };
    line.pair("kind", kind);
    let patterns: Vec<&str> = scan.patterns.keys().map(String::as_str).collect();
    line.pair("patterns", patterns.join(","));
    line.pair("ports", scan.ports);
    line.pair("hosts", scan.hosts);
    line.pair("packets", scan.packets);
    line.pair("interface", &scan.interface);
    let verdict = match scan.verdict {
        Verdict::Observed => "observed",
        Verdict::Blocked => "blocked",
        Verdict::Spared => "spared",
    };
    line.pair("verdict", verdict);
    line.pair("because", &scan.because);
    line.0
}

fn block_line(event: &str, block: &BlockRecord) -> String {
    let mut line = Line::new(event);
    line.pair("source", shown(block.source));
    line.pair("until", &block.until);
    line.pair("strikes", block.strikes);
    if let Some(scan) = &block.scan {
        line.pair("scan", scan);
    }
    line.0
}

fn alert_line(alert: &Alert) -> String {
    let mut line = Line::new("alert");
    line.pair("about", &alert.about);
    if let Some(source) = alert.source {
        line.pair("source", shown(source));
    }
    line.pair("value", format!("{:.1}", alert.value));
    line.pair("baseline", format!("{:.1}", alert.baseline));
    line.pair("unit", &alert.unit);
    line.0
}

/// A single address without its length, as other lines in a log have it.
fn shown(source: IpNet) -> String {
    if source.prefix_len() == source.max_prefix_len() {
        source.addr().to_string()
    } else {
        source.to_string()
    }
}

struct Line(String);

impl Line {
    fn new(event: &str) -> Self {
        Self(event.to_owned())
    }

    /// Quoted where it is not one plain word.
    fn pair(&mut self, key: &str, value: impl Display) {
        let value: String = value
            .to_string()
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let plain = !value.is_empty() && !value.contains([' ', '"', '=', '\\']);
        // writing to a String cannot fail
        let _ = if plain {
            write!(self.0, " {key}={value}")
        } else {
            write!(self.0, " {key}={value:?}")
        };
    }
}

#[cfg(test)]
#[path = "syslog/tests.rs"]
mod tests;
