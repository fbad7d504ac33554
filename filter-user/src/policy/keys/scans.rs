//! Keys of `[scans]` and `[report]`.

use super::Kind::{Flag, Number, Table, Text, Texts, Whole, Word};
use super::{Key, key};
use crate::policy::model::MAX_RATE;

/// Keys of `[scans]`.
pub(in crate::policy) const SCANS_KEYS: &[Key] = &[
    key(
        "sensitivity",
        Word(&["low", "medium", "high", "off"]),
        "sensitivity = \"medium\"",
        "How few targets make a scan; off: nothing is counted.",
    ),
    key(
        "action",
        Word(&["observe", "block"]),
        "action = \"block\"",
        "A scan is recorded, or its source is blocked as well.",
    ),
    key(
        "block_for",
        Text,
        "block_for = \"10m\"",
        "How long a source is blocked the first time.",
    ),
    key(
        "block_at_most",
        Text,
        "block_at_most = \"24h\"",
        "How long a block lasts at most.",
    ),
    key(
        "blocks_per_minute",
        Whole(1, 10_000),
        "blocks_per_minute = 60",
        "Automatic blocks in a minute.",
    ),
    key(
        "verified",
        Word(&["observe", "block"]),
        "verified = \"block\"",
        "What becomes of a scan whose source had a working TCP connection with this host.",
    ),
    key(
        "exempt",
        Texts,
        "exempt = [\"@monitoring\"]",
        "Sources that may scan.",
    ),
    key(
        "never_block",
        Texts,
        "never_block = [\"192.0.2.7\"]",
        "Sources that are recorded and never blocked.",
    ),
    key(
        "thresholds",
        Table(THRESHOLDS_KEYS),
        "[scans.thresholds]",
        "Figures in the place of the preset's.",
    ),
];
/// Keys of `[scans.thresholds]`, the shortest window first.
pub(in crate::policy) const THRESHOLDS_KEYS: &[Key] = &[
    key(
        "fast",
        Table(THRESHOLD_KEYS),
        "fast = { within = \"10s\", ports = 10, hosts = 10 }",
        "The shortest window.",
    ),
    key(
        "medium",
        Table(THRESHOLD_KEYS),
        "medium = { within = \"5m\", ports = 15, hosts = 25 }",
        "The window between.",
    ),
    key(
        "slow",
        Table(THRESHOLD_KEYS),
        "slow = { within = \"3h\", ports = 30, hosts = 40 }",
        "The longest window.",
    ),
];
/// Keys of `fast`, `medium` and `slow`.
pub(in crate::policy) const THRESHOLD_KEYS: &[Key] = &[
    key("within", Text, "within = \"10s\"", "The window."),
    key(
        "ports",
        Whole(2, 128),
        "ports = 10",
        "Distinct ports that make a scan.",
    ),
    key(
        "hosts",
        Whole(2, 128),
        "hosts = 10",
        "Distinct hosts that make a scan.",
    ),
];
/// Keys of `[report]`.
pub(in crate::policy) const REPORT_KEYS: &[Key] = &[
    key(
        "kinds",
        Texts,
        "kinds = [\"scan_closed\", \"alert\"]",
        "Which kinds of reports are sent.",
    ),
    key(
        "nftables",
        Table(NFTABLES_KEYS),
        "[report.nftables]",
        "Blocked sources, to the host firewall.",
    ),
    key(
        "file",
        Table(FILE_KEYS),
        "[report.file]",
        "Reports, to a file of JSON lines.",
    ),
    key(
        "syslog",
        Table(SYSLOG_KEYS),
        "[report.syslog]",
        "Reports, to the system log.",
    ),
    key(
        "webhook",
        Table(WEBHOOK_KEYS),
        "[report.webhook]",
        "Reports, to an HTTP receiver.",
    ),
    key(
        "alerts",
        Table(ALERTS_KEYS),
        "[report.alerts]",
        "Reports about what is far off its own usual rate.",
    ),
];
/// Keys of `[report.nftables]`.
pub(in crate::policy) const NFTABLES_KEYS: &[Key] = &[key(
    "drop",
    Flag,
    "drop = true",
    "Drop what blocked sources begin, on every interface.",
)];
/// Keys of `[report.file]`.
pub(in crate::policy) const FILE_KEYS: &[Key] = &[
    key(
        "path",
        Text,
        "path = \"/var/log/edgefilter/scans.jsonl\"",
        "Absolute path of the file.",
    )
    .required(),
    key(
        "max_mib",
        Whole(1, 10_000),
        "max_mib = 10",
        "The file is rotated when it is larger.",
    ),
    key(
        "keep",
        Whole(1, 100),
        "keep = 5",
        "Rotated files that are kept.",
    ),
];
/// Keys of `[report.syslog]`: that it is there says everything.
pub(in crate::policy) const SYSLOG_KEYS: &[Key] = &[];
/// Keys of `[report.webhook]`.
pub(in crate::policy) const WEBHOOK_KEYS: &[Key] = &[
    key(
        "url",
        Text,
        "url = \"https://soc.example/scans\"",
        "Receives POST requests.",
    )
    .required(),
    key(
        "secret_file",
        Text,
        "secret_file = \"/etc/edgefilter/webhook.key\"",
        "The key that bodies are signed with.",
    ),
    key(
        "queue",
        Whole(1, 100_000),
        "queue = 1000",
        "Reports that wait while the receiver does not answer.",
    ),
];
/// Keys of `[report.alerts]`.
pub(in crate::policy) const ALERTS_KEYS: &[Key] = &[
    key(
        "factor",
        Number,
        "factor = 5.0",
        "How many times the usual rate is alarming.",
    ),
    key(
        "drops_per_second",
        Whole(1, MAX_RATE as i64),
        "drops_per_second = 1000",
        "Dropped packets a second, below which nothing is alarming.",
    ),
    key(
        "scans_per_minute",
        Whole(1, MAX_RATE as i64),
        "scans_per_minute = 10",
        "New scans a minute, below which nothing is alarming.",
    ),
    key(
        "source_per_second",
        Whole(1, MAX_RATE as i64),
        "source_per_second = 100",
        "Refused packets a second of one source, below which nothing is alarming.",
    ),
    key(
        "quiet",
        Text,
        "quiet = \"10m\"",
        "The same alert is not repeated for so long.",
    ),
];
