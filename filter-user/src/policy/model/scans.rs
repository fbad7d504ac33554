//! What the validated policy says of scans, and of where they are reported to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::PrefixSet;

/// What becomes of scans.
#[derive(Debug, Clone, PartialEq)]
pub struct Scans {
    /// Probes are counted and scans recorded.
    pub enabled: bool,
    /// From when on probes are a scan: distinct targets of one source within a window. The shortest first.
    pub thresholds: [Threshold; 3],
    /// What becomes of a scan's source.
    pub action: ScanAction,
    /// What becomes of a scan's source that has a working connection with us, or had one lately: whoever forges its
    /// address could else have it blocked.
    pub verified: ScanAction,
    /// How long a first block lasts. Each further one lasts twice as long.
    pub block_for: Duration,
    /// How long a block lasts at most.
    pub block_at_most: Duration,
    /// Automatic blocks in a minute; beyond, scans are only observed, since many sources at once are likely forged.
    pub blocks_per_minute: u32,
    /// Sources that may scan: neither recorded nor blocked.
    pub exempt: Option<Arc<PrefixSet>>,
    /// Sources that are recorded and never blocked.
    pub never_block: Option<Arc<PrefixSet>>,
}

/// The longest window a threshold may have: as far as the memory of a source reaches. In three hours even `nmap -T0`,
/// a probe every five minutes, comes to more than `medium` and `high` allow.
pub const LONGEST_WINDOW: Duration = Duration::from_hours(3);
/// Most ports, and most hosts, that a threshold may ask for: no more are remembered of one source.
pub const MOST_TARGETS: u32 = 128;

/// Distinct targets within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// The window.
    pub within: Duration,
    /// Distinct refused ports (protocol and port).
    pub ports: u32,
    /// Distinct hosts.
    pub hosts: u32,
}

/// What becomes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScanAction {
    /// Recorded and reported.
    #[default]
    Observe,
    /// Blocked as well.
    Block,
}

impl Scans {
    /// Few false alarms.
    pub const LOW: [Threshold; 3] = [
        Threshold {
            within: Duration::from_secs(10),
            ports: 25,
            hosts: 25,
        },
        Threshold {
            within: Duration::from_mins(5),
            ports: 50,
            hosts: 50,
        },
        Threshold {
            within: LONGEST_WINDOW,
            ports: 100,
            hosts: 100,
        },
    ];
    /// The default.
    pub const MEDIUM: [Threshold; 3] = [
        Threshold {
            within: Duration::from_secs(10),
            ports: 10,
            hosts: 10,
        },
        Threshold {
            within: Duration::from_mins(5),
            ports: 15,
            hosts: 25,
        },
        Threshold {
            within: LONGEST_WINDOW,
            ports: 30,
            hosts: 40,
        },
    ];
    /// For hosts that nobody should touch.
    pub const HIGH: [Threshold; 3] = [
        Threshold {
            within: Duration::from_secs(10),
            ports: 5,
            hosts: 5,
        },
        Threshold {
            within: Duration::from_mins(5),
            ports: 8,
            hosts: 10,
        },
        Threshold {
            within: LONGEST_WINDOW,
            ports: 15,
            hosts: 20,
        },
    ];
}

impl Default for Scans {
    fn default() -> Self {
        Self {
            enabled: true,
            thresholds: Self::MEDIUM,
            action: ScanAction::Observe,
            verified: ScanAction::Observe,
            block_for: Duration::from_mins(10),
            block_at_most: Duration::from_hours(24),
            blocks_per_minute: 60,
            exempt: None,
            never_block: None,
        }
    }
}

/// Where scans, blocks and alerts are reported to, beside the daemon's own log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reporting {
    /// Only reports of these kinds, see [`Reporting::KINDS`]; `None`: all, empty: none.
    pub kinds: Option<Vec<&'static str>>,
    /// The host firewall layer.
    pub nftables: Option<Nftables>,
    /// A file, one JSON document a line.
    pub file: Option<ReportFile>,
    /// The system log (RFC 3164 over /dev/log).
    pub syslog: bool,
    /// An HTTP receiver.
    pub webhook: Option<Webhook>,
    /// Alerts beside single scans; `None`: off.
    pub alerts: Option<Alerts>,
}

impl Reporting {
    /// Every kind of report, by its name in the reports' `event`.
    pub const KINDS: &[&str] = &[
        "scan_opened",
        "scan_updated",
        "scan_closed",
        "blocked",
        "unblocked",
        "alert",
    ];

    /// Whether reports of a kind are told.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// The table `inet edgefilter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nftables {
    /// Drop what blocked sources send, on every interface; false: only the sets are kept.
    pub drop: bool,
}

/// A file that is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    /// Absolute.
    pub path: PathBuf,
    /// Rotated when it is larger.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub keep: u32,
}

/// A receiver of HTTP POST requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `http://` or `https://`.
    pub url: String,
    /// Holds the key that bodies are signed with (HMAC-SHA256); absolute.
    pub secret_file: Option<PathBuf>,
    /// Reports that may wait; beyond, the oldest are shed and counted.
    pub queue: u32,
}

/// When something is far off its own recent baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alerts {
    /// How many times the baseline.
    pub factor: f64,
    /// Dropped packets a second, of all sources, below which nothing is alarming.
    pub drops_per_second: u64,
    /// New scans a minute, below which nothing is alarming.
    pub scans_per_minute: u64,
    /// Refused packets a second of one source, below which nothing is alarming.
    pub source_per_second: u64,
    /// The same alert is not repeated for this long.
    pub quiet: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            factor: 5.0,
            drops_per_second: 1000,
            scans_per_minute: 10,
            source_per_second: 100,
            quiet: Duration::from_mins(10),
        }
    }
}
