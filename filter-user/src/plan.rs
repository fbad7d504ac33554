//! What a policy would change.

pub mod cut;
mod difference;
pub mod hits;
mod ranges;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cut::CutFlows;
pub use difference::{Difference, ListDifference, Opening, ProfileDifference, difference};
pub use hits::Quiet;

/// What a policy would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    /// What speaks against it.
    pub objections: Vec<String>,
    /// What differs from the policy in force, in terms of traffic.
    #[serde(default)]
    pub difference: Difference,
    /// Flows that are live now and would be dropped.
    #[serde(default)]
    pub cut_flows: CutFlows,
    /// Rules that are taken out, and rules that nothing hits.
    #[serde(default)]
    pub quiet: Quiet,
}
