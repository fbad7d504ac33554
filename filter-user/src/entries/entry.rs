//! One entry.

use std::fmt;
use std::time::SystemTime;

use filter_common::entry::{ALLOW, DENY};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::life::Life;
use super::ports::Ports;
use crate::access::Actor;

/// What an entry does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Lets in what no rule of the policy speaks of.
    Allow,
    /// Keeps out, whatever the policy says.
    Deny,
}

impl Kind {
    /// As the program says it.
    pub(super) const fn verdict(self) -> u64 {
        match self {
            Self::Allow => ALLOW,
            Self::Deny => DENY,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// A source that is let in or kept out for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it does.
    pub kind: Kind,
    /// Whom it names.
    pub source: IpNet,
    /// Sorted; empty: all that the source may ask for.
    pub ports: Vec<Ports>,
    /// Why, in the words of who asked.
    pub comment: String,
    /// Who asked.
    pub actor: Actor,
    /// When.
    pub made: SystemTime,
    /// How long it lasts.
    pub life: Life,
}

impl Entry {
    /// Keys of the kernel's table that it takes.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.ports.iter().map(Ports::count).sum::<usize>().max(1)
    }

    /// What it names of what a source may ask for, as `filter_common::entry::asked` says it; 0: all.
    pub(super) fn asked(&self) -> Vec<u32> {
        if self.ports.is_empty() {
            return vec![0];
        }
        self.ports.iter().flat_map(|ports| ports.asked()).collect()
    }

    /// Whether both are about the same: then one takes the place of the other.
    pub(super) fn is_about(&self, kind: Kind, source: IpNet, ports: &[Ports]) -> bool {
        self.kind == kind && self.source == source && self.ports == ports
    }
}
