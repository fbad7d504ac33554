//! What the pinned tables say that interfaces are bound to: for a daemon that goes on where another one ended.

use std::path::Path;

use filter_common::layout::Binding;
use filter_common::limits::{BANKS, INTERFACE_SLOTS};

use super::bank::{CONTROL_WORDS, GENERATION, PolicyMark, mark};
use super::counters;
use super::load::{LoadError, map_pinned};
use super::pins::{POLICY_MAPS, Pins};
use super::pod::to_text;

/// An interface's binding in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Interface index.
    pub ifindex: u32,
    /// Its name when it was attached.
    pub name: String,
    /// Of the bank in force.
    pub binding: Binding,
}

/// The bindings in force, by the newest complete policy set that a policy was pushed to; none where nothing is pinned.
/// Changes nothing.
pub fn bindings(pins: &Pins) -> Result<Vec<InForce>, LoadError> {
    for (_, set) in pins.policy_sets()?.into_iter().rev() {
        let complete = POLICY_MAPS.iter().all(|name| set.join(name).exists());
        if complete && let Some(bank) = bank(&set)? {
            return read(pins, &set, bank);
        }
    }
    Ok(Vec::new())
}

/// The policy in force, by the newest complete policy set that one was pushed to. Changes nothing.
pub fn policy(pins: &Pins) -> Result<Option<PolicyMark>, LoadError> {
    for (_, set) in pins.policy_sets()?.into_iter().rev() {
        let complete = POLICY_MAPS.iter().all(|name| set.join(name).exists());
        if complete && let Some(bank) = bank(&set)? {
            let control = map_pinned::<u64>(&set, "CONTROL", CONTROL_WORDS)?;
            return Ok(Some(mark(&control, bank)?));
        }
    }
    Ok(None)
}

/// The bank that the programs read; `None` before the first push.
fn bank(set: &Path) -> Result<Option<usize>, LoadError> {
    let generation = map_pinned::<u64>(set, "CONTROL", CONTROL_WORDS)?.read(GENERATION)?;
    Ok((generation > 0).then_some((generation & 1) as usize))
}

fn read(pins: &Pins, set: &Path, bank: usize) -> Result<Vec<InForce>, LoadError> {
    let table = map_pinned::<Binding>(set, "BINDINGS", BANKS * INTERFACE_SLOTS)?;
    let mut found = Vec::new();
    for (ifindex, slot) in counters::interface_slots(pins)? {
        found.push(InForce {
            ifindex,
            name: to_text(&counters::interface_label(pins, slot)?.name),
            binding: table.read(bank * INTERFACE_SLOTS + usize::from(slot))?,
        });
    }
    Ok(found)
}
