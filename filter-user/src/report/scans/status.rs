//! What `status` says of scans. The task that keeps them fills it in.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{ScanAction, Scans};
use crate::report::printable;
use crate::report::table::{RED, YELLOW, paint};

/// Scans, blocks, and where they are reported to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanStatus {
    /// `low`, `medium`, `high`, `own` (thresholds that no preset has), `off`
    pub sensitivity: String,
    /// `observe`, `block`
    pub action: String,
    /// Scans that go on.
    pub open: usize,
    /// Sources that are blocked.
    pub blocks: usize,
    /// As many can be blocked at a time.
    pub blocks_limit: usize,
    /// Sources of refused packets that are remembered.
    pub sources: usize,
    /// As many can be remembered.
    pub sources_limit: usize,
    /// Probes that were counted and not looked at, for want of budget or room, since the filter was first attached.
    pub shed: u64,
    /// Where scans and blocks are reported to.
    pub outlets: Vec<OutletState>,
}

/// How a place does that scans and blocks are reported to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutletState {
    /// `nftables`, `file`, `syslog`, `webhook`
    pub name: String,
    /// What was last tried worked.
    pub ok: bool,
    /// Why it did not.
    pub error: Option<String>,
    /// Reports handed over since the daemon started.
    pub sent: u64,
    /// Reports lost since the daemon started.
    pub shed: u64,
    /// Reports that wait.
    pub waiting: u64,
}

impl ScanStatus {
    /// As the policy has it; everything that is counted is zero.
    #[must_use]
    pub fn new(policy: &Scans) -> Self {
        let action = match policy.action {
            ScanAction::Observe => "observe",
            ScanAction::Block => "block",
        };
        Self {
            sensitivity: policy.sensitivity().to_owned(),
            action: action.to_owned(),
            ..Self::default()
        }
    }

    pub(in crate::report) fn render(&self, text: &mut String, colour: bool) {
        // Writing into a String cannot fail, hence the ignored results.
        let _ = writeln!(
            text,
            "scans: sensitivity {}, action {}; {} open, {} of at most {} sources blocked",
            printable(&self.sensitivity),
            printable(&self.action),
            self.open,
            self.blocks,
            self.blocks_limit
        );
        let _ = write!(
            text,
            "  {} of at most {} sources remembered",
            self.sources, self.sources_limit
        );
        if self.shed > 0 {
            let shed = format!("{} probes not looked at, for want of budget", self.shed);
            let _ = write!(text, "; {}", paint(&shed, YELLOW, colour));
        }
        text.push('\n');
        for outlet in &self.outlets {
            outlet.render(text, colour);
        }
    }
}

impl OutletState {
    fn render(&self, text: &mut String, colour: bool) {
        let state = match (&self.error, self.ok) {
            (_, true) => "ok".to_owned(),
            (None, false) => paint("not ok", RED, colour),
            (Some(error), false) => paint(&printable(error), RED, colour),
        };
        // Writing into a String cannot fail, hence the ignored results.
        let _ = write!(
            text,
            "  {}: {state}; {} sent",
            printable(&self.name),
            self.sent
        );
        if self.waiting > 0 {
            let _ = write!(text, ", {} waiting", self.waiting);
        }
        if self.shed > 0 {
            let lost = format!("{} lost", self.shed);
            let _ = write!(text, ", {}", paint(&lost, YELLOW, colour));
        }
        text.push('\n');
    }
}

#[cfg(test)]
pub(in crate::report) mod tests {
    use super::*;

    pub(in crate::report) fn sample() -> ScanStatus {
        ScanStatus {
            open: 2,
            blocks: 1,
            blocks_limit: 65_536,
            sources: 7,
            sources_limit: 49_152,
            shed: 3,
            outlets: vec![
                OutletState {
                    name: "file".to_owned(),
                    ok: true,
                    sent: 12,
                    ..OutletState::default()
                },
                OutletState {
                    name: "webhook".to_owned(),
                    ok: false,
                    error: Some("connection\x1b refused".to_owned()),
                    sent: 4,
                    shed: 5,
                    waiting: 1000,
                },
            ],
            ..ScanStatus::new(&Scans {
                action: ScanAction::Block,
                ..Scans::default()
            })
        }
    }

    #[test]
    fn what_works_and_what_does_not() {
        let mut text = String::new();
        sample().render(&mut text, false);
        assert_eq!(
            text,
            "\
scans: sensitivity medium, action block; 2 open, 1 of at most 65536 sources blocked
  7 of at most 49152 sources remembered; 3 probes not looked at, for want of budget
  file: ok; 12 sent
  webhook: connection\u{fffd} refused; 4 sent, 1000 waiting, 5 lost
"
        );
    }

    #[test]
    fn scans_that_are_off() {
        let off = ScanStatus::new(&Scans {
            enabled: false,
            ..Scans::default()
        });
        assert_eq!(
            (off.sensitivity.as_str(), off.action.as_str()),
            ("off", "observe")
        );
    }
}
