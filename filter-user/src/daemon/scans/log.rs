//! The daemon's log of scans and blocks: what an admin reads first. Bounded: whoever forges sources by the thousand must
//! not fill it. Everything else that is told of scans has its own limits.

use std::time::{Duration, Instant};

use crate::scans::record::Report;

/// Lines in one [`MINUTE`]; beyond come alerts, which have limits of their own, and updates, which are for debugging.
const LINES: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// What was written lately.
#[derive(Debug)]
pub(super) struct Log {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Log {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            written: 0,
            left_out: 0,
        }
    }

    /// Writes a line, if there is room.
    pub(super) fn report(&mut self, report: &Report, now: Instant) {
        let beyond = matches!(report, Report::Alert(_) | Report::ScanUpdated(_));
        if beyond || self.has_room(now) {
            write(report);
        }
    }

    /// Says how much was left out, once its minute is over.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(count) = self.over(now) {
            tracing::warn!(
                target: "edgefilter::scans",
                "{count} more lines about scans and blocks were left out: see `edgefilter scans` and `edgefilter block list`"
            );
        }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        self.tick(now);
        if self.written < LINES {
            self.written += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    fn over(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) < MINUTE {
            return None;
        }
        self.since = now;
        self.written = 0;
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then_some(left_out)
    }
}

fn write(report: &Report) {
    let text = crate::report::scans::report(report);
    match report {
        Report::ScanUpdated(_) => tracing::debug!(target: "edgefilter::scans", "{text}"),
        Report::ScanClosed(_) | Report::Unblocked(_) => {
            tracing::info!(target: "edgefilter::scans", "{text}");
        }
        _ => tracing::warn!(target: "edgefilter::scans", "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lines_and_then_says_what_is_missing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut log = Log::new(start);
        let written = (0..1000).filter(|_| log.has_room(at(30))).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(log.over(at(59)), None, "later");
        assert_eq!(log.over(at(60)), Some(1000 - u64::from(LINES)));
        assert_eq!(log.over(at(120)), None, "once");
        assert!(log.has_room(at(120)));
    }
}
