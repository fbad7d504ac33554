//! What the pins say without a daemon: where the filter stays in force. Less than a daemon knows, and nothing guessed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::printable;
use super::status::mode_name;
use super::table::{self, RED, paint};
use crate::dataplane::counters::Counters;
use crate::dataplane::{Mode, PolicyMark};

/// The answer to `edgefilter status` when no daemon answers; keys as in [`super::status::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinnedStatus {
    /// Version of the command that looked.
    pub version: &'static str,
    /// Nobody's.
    pub pid: Option<u32>,
    /// `not running`
    pub daemon: &'static str,
    /// Why the daemon was not asked.
    pub reason: String,
    /// The policy that the kernel holds; `null`: none, or nobody knows.
    pub kernel: Option<KernelPolicy>,
    /// Interfaces that the filter was put on.
    pub interfaces: Vec<PinnedInterface>,
}

/// One interface by its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinnedInterface {
    /// Name when it was attached.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its profile.
    pub profile: String,
    /// How the program runs there.
    pub mode: Option<Mode>,
    /// Whether the program is there now.
    pub attached: bool,
}

/// Which policy the kernel holds, as the tables themselves say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelPolicy {
    /// Its generation; 0: one that could not be kept.
    pub generation: u64,
    /// The first 16 digits of its digest.
    pub digest: String,
}

impl From<PolicyMark> for KernelPolicy {
    fn from(mark: PolicyMark) -> Self {
        Self {
            generation: mark.generation,
            digest: format!("{:016x}", mark.digest),
        }
    }
}

impl PinnedStatus {
    /// From what is pinned; `attached` looks at an interface.
    pub fn new(
        counters: Option<&Counters>,
        kernel: Option<PolicyMark>,
        reason: String,
        attached: impl Fn(&str) -> bool,
    ) -> Self {
        let interfaces = counters
            .iter()
            .flat_map(|counters| &counters.interfaces)
            .map(|known| PinnedInterface {
                name: known.name.clone(),
                ifindex: known.ifindex,
                profile: known.profile.clone(),
                mode: known.mode,
                attached: attached(&known.name),
            })
            .collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: None,
            daemon: "not running",
            reason,
            kernel: kernel.map(KernelPolicy::from),
            interfaces,
        }
    }

    /// For people.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let daemon = paint("daemon not running", RED, colour);
        if !self.interfaces.iter().any(|interface| interface.attached) {
            return format!("{daemon}; no filter is in force\n");
        }
        let rows = self.interfaces.iter().map(|interface| {
            vec![
                printable(&interface.name),
                interface.ifindex.to_string(),
                interface.profile.clone(),
                interface.mode.map_or("-", mode_name).to_owned(),
                if interface.attached {
                    "attached"
                } else {
                    "NOT ATTACHED"
                }
                .to_owned(),
            ]
        });
        let header = ["interface", "ifindex", "profile", "mode", "filter"];
        format!(
            "{daemon}; the filter stays in force\n\n{}",
            table::render(&header, rows, header.len())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::counters::tests::sample;

    #[test]
    fn what_stays_in_force() {
        let status =
            PinnedStatus::new(Some(&sample()), None, "nobody answers".to_owned(), |name| {
                name == "eth0"
            });
        assert_eq!(
            status.render(false),
            "daemon not running; the filter stays in force\n\n\
             interface  ifindex  profile  mode     filter\n\
             eth0       3        edge     native   attached\n\
             eth1       4        lan      generic  NOT ATTACHED\n"
        );
        let none = PinnedStatus::new(None, None, String::new(), |_| true);
        assert_eq!(
            none.render(false),
            "daemon not running; no filter is in force\n"
        );
    }
}
