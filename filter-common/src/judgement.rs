//! A decision in one word: what a program returns that is never attached, instead of an action. It judges packets for
//! people and for the checks before a push; the word tells what the counters tell of a packet on the wire.

use crate::limits::RULE_SLOTS;
use crate::reason::Reason;
use crate::verdict::Decision;

/// A decision, and where it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Reason, and slot of the rule or row.
    pub decision: Decision,
    /// Whether a drop is one, or only counted (monitor mode).
    pub enforced: bool,
    /// Slot of the interface; 0 without a configuration.
    pub slot: u8,
}

/// Set in every word, and in no XDP action.
const MARK: u32 = 1 << 31;
const ENFORCED: u32 = 1 << 15;
/// As far as slots of rules go in a word.
const MAX_RULE: u32 = 0x7fff;
const _: () = assert!(RULE_SLOTS <= MAX_RULE as usize + 1, "every slot has room");

impl Judgement {
    /// The judgement in a word.
    #[inline(always)]
    pub const fn pack(&self) -> u32 {
        let enforced = if self.enforced { ENFORCED } else { 0 };
        let reason = (self.decision.reason as u32) << 8;
        MARK | (self.decision.rule as u32 & MAX_RULE) << 16 | enforced | reason | self.slot as u32
    }

    /// The judgement in a word; `None` if it is an action.
    pub fn unpack(word: u32) -> Option<Self> {
        let reason = Reason::from_index((word >> 8 & 0x7f) as usize)?;
        (word & MARK != 0).then_some(Self {
            decision: Decision {
                reason,
                rule: (word >> 16 & MAX_RULE) as u16,
            },
            enforced: word & ENFORCED != 0,
            slot: word as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::INTERFACE_SLOTS;

    #[test]
    fn a_word_holds_it_all() {
        for reason in Reason::ALL {
            for (rule, slot, enforced) in [
                (0, 0, false),
                (7, 1, true),
                (RULE_SLOTS - 1, INTERFACE_SLOTS - 1, true),
            ] {
                let judgement = Judgement {
                    decision: Decision {
                        reason: *reason,
                        rule: rule as u16,
                    },
                    enforced,
                    slot: slot as u8,
                };
                assert_eq!(Judgement::unpack(judgement.pack()), Some(judgement));
            }
        }
    }

    #[test]
    fn an_action_is_no_judgement() {
        // XDP_DROP, XDP_PASS, TCX_DROP, TCX_NEXT
        for action in [1, 2, 2, u32::MAX] {
            assert_eq!(Judgement::unpack(action), None);
        }
    }
}
