//! The record of control actions: who did what to the filter, or tried to. Append-only JSON lines, each with the hash
//! of the one before.
//!
//! Owns the directory `audit` under the state directory: [`Log`] writes it, [`verify`] says whether it is whole, [`Filter`]
//! picks records from it. It never decides what is recorded.

mod ascii;
mod files;
mod head;
mod log;
mod record;
mod reserve;
mod show;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Actor;

pub use log::Log;
pub use record::{GENESIS, RECORD_BYTES, Record};
pub use show::{Filter, matching};
pub use verify::{Noted, Problem, Verified, verify};

/// The directory under the state directory.
pub const DIRECTORY: &str = "audit";

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Done,
    /// Not allowed, or not sound: nothing was changed.
    Refused,
    /// Allowed, and went wrong: nothing was changed.
    Failed,
}

/// What an action was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Who.
    pub actor: Actor,
    /// As `policy.apply`, `policy.confirm`, `policy.rollback`, `allow.add`, `block.remove`.
    pub action: String,
    /// To what: a line for people.
    pub subject: String,
    /// What they said it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Digest of the policy in force before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// And after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Generation of the policy in force after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Principals whose signatures counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
