//! What a running daemon says about itself. The daemon fills it in; this file only gives it a form.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::entries::EntryStatus;
use super::pinned::KernelPolicy;
use super::printable;
use super::sandbox::SandboxStatus;
use super::scans::ScanStatus;
use super::table::{self, GREEN, RED, YELLOW, paint};
use crate::control::policy::PendingConfirm;
use crate::dataplane::Mode;
use crate::generations::Generation;

/// The answer to `edgefilter status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: Option<u32>,
    /// `running`
    pub daemon: String,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// Counts swaps of the tables since the filter was first attached: policies, and what followed links and containers.
    pub generation: u64,
    /// The policy that the kernel holds, as the tables themselves say.
    #[serde(default)]
    pub kernel: Option<KernelPolicy>,
    /// The policy in force.
    pub policy: Option<PolicyStatus>,
    /// Interfaces that a profile names.
    pub interfaces: Vec<InterfaceStatus>,
    /// Scans, blocks and where they are reported to; `None` until they are followed.
    #[serde(default)]
    pub scans: Option<ScanStatus>,
    /// Run-time entries; `None` until they are kept.
    #[serde(default)]
    pub entries: Option<EntryStatus>,
    /// What the daemon has given up; `None` if it is an older one.
    #[serde(default)]
    pub sandbox: Option<SandboxStatus>,
    /// The daemon's own settings; `None` from a daemon that has none.
    #[serde(default)]
    pub settings: Option<SettingsStatus>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// The daemon's own settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsStatus {
    /// Their file; `null`: there is none, and everything has its default.
    pub path: Option<String>,
    /// Why the file as it is now is not in force; the settings before stay.
    pub last_error: Option<String>,
    /// The address for control over the network, if it is on.
    pub remote: Option<String>,
}

/// The policy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// Its file.
    pub path: String,
    /// SHA-256 over the file and its prefix files.
    pub fingerprint: String,
    /// RFC 3339.
    pub loaded_at: String,
    /// Allow and deny rules of all profiles.
    pub rules: usize,
    /// Distinct prefixes in its address lists.
    pub prefixes: usize,
    /// Counts the policies put in force; 0: it could not be kept.
    #[serde(default)]
    pub generation: u64,
    /// Who put it in force, when and how; `None`: it could not be kept.
    #[serde(default)]
    pub record: Option<Generation>,
    /// It is undone unless it is confirmed.
    #[serde(default)]
    pub pending: Option<PendingConfirm>,
    /// Why a later attempt to load a policy failed; the one before stays in force.
    pub last_error: Option<String>,
}

/// One interface that a profile names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Profile for frames that no VLAN profile claims; empty if there is none.
    pub profile: String,
    /// VLAN id and the profile that claims it.
    pub vlans: Vec<(u16, String)>,
    /// False: monitor mode.
    pub enforce: bool,
    /// How the program runs there.
    #[serde(deserialize_with = "mode")]
    pub mode: Option<Mode>,
    /// Whether the filter is in force there.
    pub attached: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// Which sources are refused; `None` on a container link, where the binding decides.
    #[serde(default)]
    pub antispoof: Option<AntiSpoofStatus>,
    /// What the container behind it may send from; `None` on an outer interface.
    #[serde(default)]
    pub binding: Option<BindingStatus>,
}

/// Which sources are refused on an outer interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AntiSpoofStatus {
    /// Sources that cannot be.
    pub martians: bool,
    /// Private ranges too.
    pub internet: bool,
    /// The host's own addresses, and its containers' networks, from outside.
    pub own_addresses: bool,
    /// `off`, `loose`, `strict`
    pub reverse_path: String,
    /// What leaves must be sent by the host.
    pub egress: bool,
}

/// What a container may send from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingStatus {
    /// Who says so: `policy`, `cni`, `peer`; without a binding `closed` (nothing passes) or `open` (nothing is checked).
    pub origin: String,
    /// Its MACs.
    pub macs: Vec<String>,
    /// Its addresses and prefixes.
    pub addresses: Vec<String>,
    /// Why there is no binding, or which addresses were refused.
    pub remarks: Vec<String>,
}

/// A mode of a newer daemon is shown as unknown.
fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mode>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok([Mode::Native, Mode::Generic, Mode::Tc]
        .into_iter()
        .find(|mode| Some(mode_name(*mode)) == name.as_deref()))
}

/// The word for a mode.
#[must_use]
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
        Mode::Tc => "tc",
    }
}

impl Status {
    /// For people.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        let shade = if self.daemon == "running" { GREEN } else { RED };
        // Writing into a String cannot fail, hence the ignored results.
        let _ = write!(
            text,
            "edgefilter {}: {}",
            self.version,
            paint(&self.daemon, shade, colour)
        );
        if let Some(pid) = self.pid {
            let _ = write!(text, ", pid {pid}");
        }
        if let Some(since) = &self.started_at {
            let _ = write!(text, ", since {since}");
        }
        text.push('\n');
        match &self.policy {
            Some(policy) => policy.render(&mut text, self.generation, colour),
            None => text.push_str("policy: none\n"),
        }
        if let Some(settings) = &self.settings {
            settings.render(&mut text, colour);
        }
        text.push('\n');
        self.render_interfaces(&mut text, colour);
        if let Some(scans) = &self.scans {
            scans.render(&mut text, colour);
        }
        if let Some(entries) = &self.entries {
            entries.render(&mut text);
        }
        if let Some(sandbox) = &self.sandbox {
            sandbox.render(&mut text, colour);
        }
        for warning in &self.warnings {
            let _ = writeln!(
                text,
                "{}: {}",
                paint("warning", YELLOW, colour),
                printable(warning)
            );
        }
        text
    }

    fn render_interfaces(&self, text: &mut String, colour: bool) {
        if self.interfaces.is_empty() {
            text.push_str("no interface of the policy exists\n");
            return;
        }
        let rows = self.interfaces.iter().map(InterfaceStatus::row);
        let header = [
            "interface",
            "ifindex",
            "profile",
            "vlans",
            "verdicts",
            "mode",
            "filter",
        ];
        text.push_str(&table::render(&header, rows, header.len()));
        text.push('\n');
        for interface in &self.interfaces {
            interface.render_sources(text, colour);
        }
        for interface in &self.interfaces {
            if let Some(error) = &interface.error {
                let _ = writeln!(
                    text,
                    "{}: {}",
                    paint("error", RED, colour),
                    printable(error)
                );
            }
        }
    }
}

impl PolicyStatus {
    fn render(&self, text: &mut String, generation: u64, colour: bool) {
        // Writing into a String cannot fail, hence the ignored results.
        let _ = writeln!(text, "policy: {}", printable(&self.path));
        let _ = writeln!(
            text,
            "  loaded {}, tables swapped {generation} times",
            self.loaded_at
        );
        let _ = writeln!(text, "  rules: {}, prefixes: {}", self.rules, self.prefixes);
        let _ = writeln!(text, "  fingerprint {}", self.fingerprint);
        if let Some(record) = &self.record {
            let _ = writeln!(text, "  {}", super::policy::provenance(record));
        }
        if let Some(pending) = &self.pending {
            let state = paint("waits to be confirmed", YELLOW, colour);
            let _ = writeln!(
                text,
                "  {state}: undone to generation {} in {} s",
                pending.undo_to, pending.seconds_left
            );
        }
        if let Some(error) = &self.last_error {
            let _ = writeln!(
                text,
                "  {}: {}",
                paint("last error", RED, colour),
                printable(error)
            );
        }
    }
}

impl SettingsStatus {
    fn render(&self, text: &mut String, colour: bool) {
        // Writing into a String cannot fail, hence the ignored results.
        if let Some(path) = &self.path {
            let _ = writeln!(text, "settings: {}", printable(path));
        }
        if let Some(remote) = &self.remote {
            let _ = writeln!(text, "  control over the network: {}", printable(remote));
        }
        if let Some(error) = &self.last_error {
            let _ = writeln!(
                text,
                "  {}: {}",
                paint("settings not in force", RED, colour),
                printable(error)
            );
        }
    }
}

impl AntiSpoofStatus {
    /// `refuses martians, own addresses; reverse path strict`
    #[must_use]
    pub fn text(&self) -> String {
        let martians = match (self.martians, self.internet) {
            (true, true) => Some("martians and private ranges"),
            (true, false) => Some("martians"),
            (false, _) => None,
        };
        let refused: Vec<&str> = [
            martians,
            self.own_addresses.then_some("own addresses"),
            self.egress.then_some("others' sources at egress"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let refused = match refused.as_slice() {
            [] => "refuses no source".to_owned(),
            list => format!("refuses {}", list.join(", ")),
        };
        format!("{refused}; reverse path {}", self.reverse_path)
    }
}

impl BindingStatus {
    /// `bound by cni to 0a:58:0a:16:00:05, 10.22.0.5`
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match self.origin.as_str() {
            "closed" => "no binding, nothing passes".to_owned(),
            "open" => "no binding, sources are not checked".to_owned(),
            origin => format!(
                "bound by {origin} to {}",
                [self.macs.join(", "), self.addresses.join(", ")].join(", ")
            ),
        };
        if !self.remarks.is_empty() {
            text.push_str(": ");
            text.push_str(&self.remarks.join("; "));
        }
        text
    }
}

impl InterfaceStatus {
    fn render_sources(&self, text: &mut String, colour: bool) {
        let (what, good) = match (&self.antispoof, &self.binding) {
            (_, Some(binding)) => (
                binding.text(),
                !matches!(binding.origin.as_str(), "closed" | "open"),
            ),
            (Some(antispoof), None) => (antispoof.text(), true),
            (None, None) => return,
        };
        let name = printable(&self.name);
        let what = printable(&what);
        let shown = if good {
            what
        } else {
            paint(&what, YELLOW, colour)
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name}: {shown}");
    }

    fn row(&self) -> Vec<String> {
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        vec![
            printable(&self.name),
            self.ifindex.to_string(),
            dash(&self.profile),
            dash(&vlans(&self.vlans)),
            if self.enforce {
                "enforced"
            } else {
                "monitored"
            }
            .to_owned(),
            dash(self.mode.map_or("", mode_name)),
            if self.attached {
                "attached"
            } else {
                "NOT ATTACHED"
            }
            .to_owned(),
        ]
    }
}

/// `100,200:guests 300:lab`
fn vlans(list: &[(u16, String)]) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (vlan, profile) in list {
        match groups.iter_mut().find(|(known, _)| known == profile) {
            Some((_, ids)) => ids.push(vlan.to_string()),
            None => groups.push((profile, vec![vlan.to_string()])),
        }
    }
    groups
        .iter()
        .map(|(profile, ids)| format!("{}:{profile}", ids.join(",")))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::scans::status_tests::sample as scan_status;

    pub(crate) fn sample() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            pid: Some(42),
            daemon: "running".to_owned(),
            started_at: Some("2026-01-01T00:00:00.000Z".to_owned()),
            generation: 3,
            kernel: None,
            policy: Some(PolicyStatus {
                path: "edge.toml".to_owned(),
                fingerprint: "abcd".to_owned(),
                loaded_at: "2026-01-01T00:00:01.000Z".to_owned(),
                rules: 2,
                prefixes: 5,
                last_error: Some("edge.toml:3:1: error".to_owned()),
                generation: 17,
                record: None,
                pending: Some(PendingConfirm {
                    undo_to: 16,
                    seconds_left: 42,
                }),
            }),
            settings: None,
            interfaces: vec![
                InterfaceStatus {
                    name: "eth0".to_owned(),
                    ifindex: 3,
                    profile: "edge".to_owned(),
                    vlans: vec![
                        (100, "guests".to_owned()),
                        (300, "lab".to_owned()),
                        (200, "guests".to_owned()),
                    ],
                    enforce: true,
                    mode: Some(Mode::Native),
                    attached: true,
                    error: None,
                    antispoof: Some(AntiSpoofStatus {
                        martians: true,
                        internet: true,
                        own_addresses: true,
                        reverse_path: "strict".to_owned(),
                        egress: false,
                    }),
                    binding: None,
                },
                InterfaceStatus {
                    name: "ev\x1bil".to_owned(),
                    ifindex: 4,
                    profile: "edge".to_owned(),
                    error: Some("another program".to_owned()),
                    ..InterfaceStatus::default()
                },
                InterfaceStatus {
                    name: "veth1".to_owned(),
                    ifindex: 5,
                    profile: "pods".to_owned(),
                    mode: Some(Mode::Tc),
                    binding: Some(BindingStatus {
                        origin: "cni".to_owned(),
                        macs: vec!["0a:58:0a:16:00:05".to_owned()],
                        addresses: vec!["10.22.0.5".to_owned()],
                        remarks: Vec::new(),
                    }),
                    ..InterfaceStatus::default()
                },
                InterfaceStatus {
                    name: "veth2".to_owned(),
                    ifindex: 6,
                    profile: "pods".to_owned(),
                    binding: Some(BindingStatus {
                        origin: "closed".to_owned(),
                        remarks: vec!["its other end has no address yet".to_owned()],
                        ..BindingStatus::default()
                    }),
                    ..InterfaceStatus::default()
                },
            ],
            scans: Some(scan_status()),
            entries: Some(EntryStatus {
                allow: 2,
                deny: 1,
                limit: 1024,
            }),
            sandbox: None,
            warnings: vec!["edge.toml:9:1: warning: never matches".to_owned()],
        }
    }

    #[test]
    fn text_for_people() {
        let text = sample().render(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "edgefilter 0.1.0: running, pid 42, since 2026-01-01T00:00:00.000Z"
        );
        assert_eq!(lines[1], "policy: edge.toml");
        assert_eq!(
            lines[5],
            "  waits to be confirmed: undone to generation 16 in 42 s"
        );
        assert_eq!(lines[6], "  last error: edge.toml:3:1: error");
        assert_eq!(
            lines[8],
            "interface  ifindex  profile  vlans                   verdicts   mode    filter"
        );
        assert_eq!(
            lines[9],
            "eth0       3        edge     100,200:guests 300:lab  enforced   native  attached"
        );
        assert_eq!(
            lines[10],
            "ev\u{fffd}il      4        edge     -                       monitored  -       NOT ATTACHED"
        );
        assert_eq!(
            &lines[14..],
            [
                "eth0: refuses martians and private ranges, own addresses; reverse path strict",
                "veth1: bound by cni to 0a:58:0a:16:00:05, 10.22.0.5",
                "veth2: no binding, nothing passes: its other end has no address yet",
                "error: another program",
                "scans: sensitivity medium, action block; 2 open, 1 of at most 65536 sources blocked",
                "  7 of at most 49152 sources remembered; 3 probes not looked at, for want of budget",
                "  file: ok; 12 sent",
                "  webhook: connection\u{fffd} refused; 4 sent, 1000 waiting, 5 lost",
                "  nftables: ok; 1 source dropped",
                "entries: 2 to let in, 1 to keep out, of at most 1024",
                "warning: edge.toml:9:1: warning: never matches",
            ]
        );
        assert!(!text.contains('\x1b'));
        assert!(sample().render(true).contains("\x1b[32mrunning\x1b[0m"));
    }

    #[test]
    fn json_there_and_back() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert!(text.contains(r#""mode":"native""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), sample());
        let newer = text.replace(r#""native""#, r#""hardware""#);
        assert_eq!(
            serde_json::from_str::<Status>(&newer).unwrap().interfaces[0].mode,
            None
        );
    }
}
