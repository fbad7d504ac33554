//! Which slot a rule's counters and rate limits live in: a rule keeps its slot as long as its id exists, so counters go
//! on across pushes and restarts.

use std::collections::HashMap;

use filter_common::limits::RULE_SLOTS;
use filter_common::row;

use super::registry;
use crate::policy::{MAX_RULES, Policy};

/// All slots are taken by rules of the policies in force.
#[derive(Debug, thiserror::Error)]
#[error("the policy has more than {MAX_RULES} rules")]
pub struct SlotsFull;

// every rule and every row has a slot
const _: () = assert!(
    MAX_RULES + row::FIRST_FREE as usize + registry::V4.len() + registry::V6.len() <= RULE_SLOTS
);

/// Ids of rules and names of rows, and their slots.
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
            .filter(|(_, slot)| *slot >= row::FIRST_FREE && (*slot as usize) < RULE_SLOTS)
            .collect();
        slots.extend(
            row::FIXED
                .iter()
                .map(|(slot, name, _)| ((*name).to_owned(), *slot)),
        );
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
        let mut ids: Vec<String> = policy.rules().map(|rule| rule.id.clone()).collect();
        if policy
            .profiles
            .iter()
            .any(|profile| profile.antispoof.martians)
        {
            ids.extend(
                registry::V4
                    .iter()
                    .chain(registry::V6)
                    .map(registry::row_id),
            );
        }
        let mut taken = vec![false; RULE_SLOTS];
        self.slots
            .values()
            .for_each(|slot| taken[*slot as usize] = true);
        let mut free = (row::FIRST_FREE as usize..RULE_SLOTS)
            .filter(|slot| !taken[*slot])
            .collect::<Vec<_>>()
            .into_iter();
        for id in &ids {
            if self.slots.contains_key(id) {
                continue;
            }
            let slot = match free.next() {
                Some(slot) => slot as u16,
                None => self.reclaim(&ids)?,
            };
            self.slots.insert(id.clone(), slot);
            self.fresh.push(slot);
        }
        Ok(())
    }

    /// Takes the slot of an id that the policy no longer has.
    fn reclaim(&mut self, ids: &[String]) -> Result<u16, SlotsFull> {
        let gone = self
            .slots
            .iter()
            .find(|(id, slot)| **slot >= row::FIRST_FREE && !ids.contains(id))
            .map(|(id, _)| id.clone())
            .ok_or(SlotsFull)?;
        self.slots.remove(&gone).ok_or(SlotsFull)
    }
}
