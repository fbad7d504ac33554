//! Which slot a rule's counters and rate limits live in: a rule keeps its slot as long as its id exists, so counters go
//! on across pushes and restarts.

use std::collections::HashMap;

use filter_common::limits::RULE_SLOTS;
use filter_common::matrix::DEFAULT_RULE;

use crate::policy::Policy;

/// The id of the rule that stands for a profile's default verdict `pass`.
pub const DEFAULT_RULE_ID: &str = "default";

/// All slots are taken by rules of the policies in force.
#[derive(Debug, thiserror::Error)]
#[error("the policy has more than {} rules", RULE_SLOTS - 2)]
pub struct SlotsFull;

/// Rule ids and their slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSlots {
    slots: HashMap<String, u16>,
    fresh: Vec<u16>,
}

impl Default for RuleSlots {
    fn default() -> Self {
        Self::known([])
    }
}

impl RuleSlots {
    /// Slots that are known from before.
    pub fn known(known: impl IntoIterator<Item = (String, u16)>) -> Self {
        let mut slots: HashMap<String, u16> = known
            .into_iter()
            .filter(|(_, slot)| *slot > DEFAULT_RULE && (*slot as usize) < RULE_SLOTS)
            .collect();
        slots.insert(DEFAULT_RULE_ID.to_owned(), DEFAULT_RULE);
        Self {
            slots,
            fresh: Vec::new(),
        }
    }

    /// The slot of a rule that was assigned; 0 for others.
    pub fn slot(&self, id: &str) -> u16 {
        self.slots.get(id).copied().unwrap_or(0)
    }

    /// Every id and its slot, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.slots.iter().map(|(id, slot)| (id.as_str(), *slot))
    }

    /// Slots that were given to a new rule since the last call: their counters start at zero.
    pub fn take_fresh(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.fresh)
    }

    /// Gives every rule of the policy a slot. Ids that are gone keep theirs until the room is needed.
    pub(super) fn assign(&mut self, policy: &Policy) -> Result<(), SlotsFull> {
        let ids: Vec<&str> = policy
            .profiles
            .iter()
            .flat_map(|profile| profile.deny.iter().chain(&profile.allow))
            .map(|rule| rule.id.as_str())
            .collect();
        let mut taken = vec![false; RULE_SLOTS];
        self.slots
            .values()
            .for_each(|slot| taken[*slot as usize] = true);
        let mut free = (DEFAULT_RULE as usize + 1..RULE_SLOTS)
            .filter(|slot| !taken[*slot])
            .collect::<Vec<_>>()
            .into_iter();
        for id in &ids {
            if self.slots.contains_key(*id) {
                continue;
            }
            let slot = match free.next() {
                Some(slot) => slot as u16,
                None => self.reclaim(&ids)?,
            };
            self.slots.insert((*id).to_owned(), slot);
            self.fresh.push(slot);
        }
        Ok(())
    }

    /// Takes the slot of an id that the policy no longer has.
    fn reclaim(&mut self, ids: &[&str]) -> Result<u16, SlotsFull> {
        let gone = self
            .slots
            .keys()
            .find(|id| id.as_str() != DEFAULT_RULE_ID && !ids.contains(&id.as_str()))
            .cloned()
            .ok_or(SlotsFull)?;
        self.slots.remove(&gone).ok_or(SlotsFull)
    }
}
