//! A scan as people and scripts see it. Field names are an interface to scripts: add, never rename.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One scan from open to close: one run of a scanner is one record, updated, not repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanRecord {
    /// Unique over restarts.
    pub id: String,
    /// Whether it goes on.
    pub state: State,
    /// An IPv4 address, an IPv6 address, or an IPv6 /64 of which several addresses took part.
    #[schemars(with = "String")]
    pub source: IpNet,
    /// Other sources that sent the same probes at the same time: all but one are likely forged (nmap -D).
    #[schemars(with = "Vec<String>")]
    pub decoys: Vec<IpNet>,
    /// Many ports, many hosts, or both.
    pub kind: Kind,
    /// Distinct targets reported, by pattern (`filter_common::scan::Pattern::name`).
    pub patterns: BTreeMap<String, u64>,
    /// Programs that probe like this (never proof).
    pub hints: Vec<String>,
    /// Distinct ports (protocol and port); beyond 256 an estimate, within a few percent.
    pub ports: u64,
    /// Distinct hosts; beyond 256 an estimate, within a few percent up to some 65,000.
    pub hosts: u64,
    /// The first ports, as `tcp/22`, `protocol/47`, `icmp/8`.
    pub sample_ports: Vec<String>,
    /// The first hosts.
    pub sample_hosts: Vec<IpAddr>,
    /// Refused packets.
    pub packets: u64,
    /// Refused packets a second, from first to last.
    pub rate: f64,
    /// Interface of the last probe.
    pub interface: String,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub last_seen: String,
    /// Distinct targets it took until it was called a scan.
    pub targets_to_open: u64,
    /// What became of the source.
    pub verdict: Verdict,
    /// Why that verdict, in words.
    pub because: String,
    /// RFC 3339; while it is blocked.
    pub blocked_until: Option<String>,
    /// Blocks of this source so far, this one included.
    pub strikes: u32,
    /// Refused packets were shed while it went on: it may be larger than it looks.
    pub shed: bool,
}

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It goes on.
    Open,
    /// Nothing came for a while.
    Closed,
}

/// What is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Many ports.
    PortScan,
    /// Many hosts.
    Sweep,
    /// Many ports of many hosts.
    Both,
}

/// What became of a scan's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Recorded.
    Observed,
    /// Blocked for a time.
    Blocked,
    /// It would be blocked, but must not be: `because` says why.
    Spared,
}

/// A blocked source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockRecord {
    /// An IPv4 address, an IPv6 address or an IPv6 /64.
    #[schemars(with = "String")]
    pub source: IpNet,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339.
    pub until: String,
    /// Seconds that are left.
    pub seconds_left: u64,
    /// `scan` or `manual`.
    pub origin: Origin,
    /// Blocks of this source so far, this one included.
    pub strikes: u32,
    /// The scan that led to it, as far as it is known.
    pub scan: Option<String>,
}

/// Who asked for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A scan.
    Scan,
    /// A person.
    Manual,
}

/// Something is far off its own recent baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// `drops`, `scans` or `source`.
    pub about: String,
    /// The source, where it is about one.
    #[schemars(with = "Option<String>")]
    pub source: Option<IpNet>,
    /// What was measured, in `unit`.
    pub value: f64,
    /// What is usual, in `unit`.
    pub baseline: f64,
    /// `packets/s` or `scans/min`.
    pub unit: String,
    /// RFC 3339.
    pub time: String,
}

/// What outlets are told, one JSON document each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// A source crossed a threshold.
    ScanOpened(ScanRecord),
    /// It goes on; at most every minute for one scan.
    ScanUpdated(ScanRecord),
    /// Nothing came for a while.
    ScanClosed(ScanRecord),
    /// A source was blocked.
    Blocked(BlockRecord),
    /// A block ended or was taken off, at `until`.
    Unblocked(BlockRecord),
    /// See [`Alert`].
    Alert(Alert),
}

impl Report {
    /// Its name in `event`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ScanOpened(_) => "scan_opened",
            Self::ScanUpdated(_) => "scan_updated",
            Self::ScanClosed(_) => "scan_closed",
            Self::Blocked(_) => "blocked",
            Self::Unblocked(_) => "unblocked",
            Self::Alert(_) => "alert",
        }
    }
}
