//! Owns the oracle's reading of `scans` and `report`. Neither decides about a packet by itself: they are read so that
//! a whole policy can be given to the oracle. Must never judge whether a value makes sense.

use serde::{Deserialize, Serialize};

use super::Address;

/// `[scans]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawScans {
    /// The preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// What becomes of a scan's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<ScanAction>,
    /// How long a first block lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_for: Option<String>,
    /// How long a block lasts at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_at_most: Option<String>,
    /// Automatic blocks in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_per_minute: Option<u32>,
    /// What becomes of a scan's source that has a working connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<ScanAction>,
    /// Sources that may scan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<Address>,
    /// Sources that are never blocked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_block: Vec<Address>,
    /// In the place of the preset's. Tables come last in TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<RawThresholds>,
}

/// `sensitivity = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// Few false alarms.
    Low,
    /// As by default.
    Medium,
    /// For hosts that nobody should touch.
    High,
    /// No scan is recorded.
    Off,
}

/// `action = ...`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanAction {
    /// Recorded.
    Observe,
    /// Blocked as well.
    Block,
}

/// `[scans.thresholds]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawThresholds {
    /// The shortest window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<RawThreshold>,
    /// The one between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<RawThreshold>,
    /// The longest window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<RawThreshold>,
}

/// One window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawThreshold {
    /// Its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Distinct ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Distinct hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u32>,
}

/// `[report]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawReport {
    /// The host firewall layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nftables: Option<RawNftables>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<RawFile>,
    /// The system log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syslog: Option<RawSyslog>,
    /// An HTTP receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<RawWebhook>,
    /// Alerts beside single scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts: Option<RawAlerts>,
}

/// `[report.nftables]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNftables {
    /// Whether nftables drops what blocked sources send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<bool>,
}

/// `[report.file]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// Where it is.
    pub path: String,
    /// Its largest size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_mib: Option<u64>,
    /// Rotated files that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// `[report.syslog]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSyslog {}

/// `[report.webhook]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    /// Who receives.
    pub url: String,
    /// What bodies are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    /// Reports that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
}

/// `[report.alerts]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAlerts {
    /// How many times the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Floor of drops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops_per_second: Option<u64>,
    /// Floor of scans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scans_per_minute: Option<u64>,
    /// Floor of one source's packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_per_second: Option<u64>,
    /// How long an alert is not repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::RawPolicy;
    use super::*;

    /// Both readings take the policy in which every key is written.
    #[test]
    fn every_key_of_scans_and_report_is_known() {
        let text = include_str!("../../../policies/good/scans.toml");
        let policy = RawPolicy::parse(text).unwrap();
        let (scans, report) = (
            policy.scans.as_ref().unwrap(),
            policy.report.as_ref().unwrap(),
        );
        assert_eq!(scans.sensitivity, Some(Sensitivity::High));
        assert_eq!(scans.action, Some(ScanAction::Block));
        assert_eq!(scans.never_block.len(), 2);
        let slow = scans.thresholds.as_ref().unwrap().slow.as_ref().unwrap();
        assert_eq!((slow.ports, slow.hosts), (None, Some(128)));
        assert_eq!(report.nftables, Some(RawNftables { drop: Some(true) }));
        assert_eq!(report.syslog, Some(RawSyslog {}));
        assert_eq!(report.alerts.as_ref().unwrap().factor, Some(3.0));
        assert_eq!(
            RawPolicy::parse(&policy.to_text().unwrap()).unwrap(),
            policy
        );
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let closed = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n";
        for text in [
            "[scans]\nsensible = \"low\"",
            "[scans.thresholds]\nslower = {}",
            "[report.syslog]\nfacility = 1",
            "[report.email]",
        ] {
            assert!(
                RawPolicy::parse(&format!("{closed}{text}\n")).is_err(),
                "{text}"
            );
        }
    }
}
