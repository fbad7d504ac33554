//! Rules that nobody seems to need, or that are taken out: when something last hit them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules that are shown.
const SHOWN: usize = 20;

/// Rules that are taken out, and rules that are kept and that nothing hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quiet {
    /// How many.
    pub count: u64,
    /// The first of them, those that are taken out before the others.
    pub first: Vec<RuleHits>,
}

/// When something last hit a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleHits {
    /// Its id.
    pub rule: String,
    /// Whether the new policy does not have it.
    pub taken_out: bool,
    /// Since when it is looked at.
    pub since: String,
    /// When a packet last hit it, to the minute; `null`: none since then.
    pub last: Option<String>,
}

impl Quiet {
    /// Of these, in this order.
    pub fn of(mut rules: Vec<RuleHits>) -> Self {
        let count = rules.len() as u64;
        rules.truncate(SHOWN);
        Self {
            count,
            first: rules,
        }
    }
}
