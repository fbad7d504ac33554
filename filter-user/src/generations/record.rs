//! What is known of a policy that was put in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::Actor;

/// One generation of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Counts the policies put in force, from 1.
    pub number: u64,
    /// SHA-256 over the names and texts of its files.
    pub digest: String,
    /// Name of the policy file.
    pub file: String,
    /// Who put it in force.
    pub actor: Actor,
    /// RFC 3339.
    pub made_at: String,
    /// What they said it is for.
    #[serde(default)]
    pub message: Option<String>,
    /// How it came in.
    pub origin: Origin,
    /// Who signed it.
    #[serde(default)]
    pub approvals: Vec<String>,
    /// Serial number of the manifest that was signed.
    #[serde(default)]
    pub serial: Option<u64>,
    /// Rules of all profiles.
    pub rules: usize,
    /// Distinct prefixes in its address lists.
    pub prefixes: usize,
}

/// How a generation came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The policy file that the daemon was started with.
    File,
    /// Pushed by somebody.
    Apply,
    /// Somebody went back to this generation.
    Rollback(u64),
    /// This generation was not confirmed in time: back to what was in force before.
    Undo(u64),
}
