//! What a policy would change.

mod difference;
mod ranges;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use difference::{Difference, ListDifference, Opening, ProfileDifference, difference};

/// What a policy would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    /// What speaks against it.
    pub objections: Vec<String>,
    /// What differs from the policy in force, in terms of traffic.
    #[serde(default)]
    pub difference: Difference,
}
