//! What this host offers to others, and what the filter lets through to it: listening sockets and published container
//! ports beside the policy in force.
//!
//! Only looks. What is open is worked out from the policy, not tried.

mod compare;
pub mod learn;
mod openings;
mod processes;
mod published;
mod sockets;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compare::compare;
pub use openings::Openings;
pub use processes::name as name_processes;
pub(crate) use published::published;
pub use sockets::listeners;

/// Who can be asked from outside.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something listens, and the policy lets everybody in.
    OpenToWorld,
    /// Something listens, and the policy lets some sources in.
    OpenToSome,
    /// Something listens, and the policy lets nobody in.
    Closed,
    /// The policy opens it, and nothing listens.
    Unused,
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenToWorld => "open-to-world",
            Self::OpenToSome => "open-to-some",
            Self::Closed => "closed",
            Self::Unused => "unused",
        }
    }
}

/// One port of one outer profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What is the case.
    pub kind: Kind,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    /// A port, or a range of them: `8000-8100`.
    pub ports: String,
    /// What listens; `null` for what is unused.
    pub listener: Option<Listener>,
    /// The profile that judges.
    pub profile: String,
    /// Names and globs of its interfaces.
    pub interfaces: Vec<String>,
    /// False: monitor mode, everybody gets in whatever the policy says.
    pub enforced: bool,
    /// Rules that open the port, `default` if the profile passes what no rule is about.
    pub rules: Vec<String>,
    /// Prefixes that are let in, if not everybody is.
    pub prefixes: usize,
}

/// Something that listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// Own address it listens on, or the unspecified one for all of them.
    pub address: IpAddr,
    /// The socket; 0 for what is no socket.
    pub inode: u32,
    /// User of the socket.
    pub uid: u32,
    /// Process, if it may be known.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<String>,
    /// For a published port: where it leads.
    pub container: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exposure {
    /// What others can ask, the widest open first.
    pub findings: Vec<Finding>,
    /// What only this host itself can ask.
    pub loopback: Vec<Listener>,
    /// What somebody should know who reads this.
    pub remarks: Vec<String>,
}
