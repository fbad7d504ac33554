//! Approval of policies: a manifest names every file of a policy by its hash and carries a serial number; people sign it
//! with `ssh-keygen -Y sign -n edgefilter`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The namespace of signatures (`ssh-keygen -n`).
pub const NAMESPACE: &str = "edgefilter";

/// What is sent with a policy to show that people approved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The text that was signed.
    pub manifest: String,
    /// Armored signatures, as `ssh-keygen -Y sign` writes them.
    pub signatures: Vec<String>,
}

/// A policy that enough people signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// The manifest's serial number.
    pub serial: u64,
    /// Principals whose signatures count, each once.
    pub signers: Vec<String>,
}
