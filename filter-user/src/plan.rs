//! What a policy would change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a policy would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    /// What speaks against it.
    pub objections: Vec<String>,
}
