//! What `status` says of scans. The task that keeps them fills it in.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{ScanAction, Scans};
use crate::report::printable;
use crate::report::table::{RED, YELLOW, paint};
use crate::scans::outlets::OutletState;
use crate::scans::outlets::nft::NftState;

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
    /// The table in the host's firewall, where the policy asks for it.
    pub nftables: Option<NftState>,
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
            render_outlet(outlet, text, colour);
        }
        if let Some(nft) = &self.nftables {
            let does = if nft.drop { "dropped" } else { "listed" };
            let sources = if nft.elements == 1 {
                "source"
            } else {
                "sources"
            };
            let _ = writeln!(
                text,
                "  nftables: {}; {} {sources} {does}",
                state(nft.ok, nft.error.as_deref(), colour),
                nft.elements
            );
        }
    }
}

fn state(ok: bool, error: Option<&str>, colour: bool) -> String {
    match (ok, error) {
        (true, _) => "ok".to_owned(),
        (false, None) => paint("not ok", RED, colour),
        (false, Some(error)) => paint(&printable(error), RED, colour),
    }
}

fn render_outlet(outlet: &OutletState, text: &mut String, colour: bool) {
    // Writing into a String cannot fail, hence the ignored results.
    let _ = write!(
        text,
        "  {}: {}; {} sent",
        printable(&outlet.name),
        state(outlet.ok, outlet.error.as_deref(), colour),
        outlet.sent
    );
    if outlet.waiting > 0 {
        let _ = write!(text, ", {} waiting", outlet.waiting);
    }
    if outlet.shed > 0 {
        let lost = format!("{} lost", outlet.shed);
        let _ = write!(text, ", {}", paint(&lost, YELLOW, colour));
    }
    text.push('\n');
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
            nftables: Some(NftState {
                ok: true,
                drop: true,
                elements: 1,
                ..NftState::default()
            }),
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
  nftables: ok; 1 source dropped
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
