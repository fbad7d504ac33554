//! A shadow for the packets of a capture, one after the other: what each leaves behind, the next one finds. Nothing live
//! is copied but which policy is in force.

use filter_common::reason::Reason;

use super::super::bank::GENERATION;
use super::{JudgeError, Judged, Place, Shadow, source_buckets};

/// Room for flows that is never used up: while there is some, nobody looks among the host's sockets of today.
const ROOM: u64 = 1 << 32;

/// A shadow that knows of no flow but those of the packets it was given.
#[derive(Debug)]
pub struct Capture {
    shadow: Shadow,
    generation: u64,
}

impl Capture {
    pub(super) fn begin(mut shadow: Shadow, generation: Option<u64>) -> Result<Self, JudgeError> {
        let generation = match generation {
            Some(generation) => generation,
            None => shadow.live.read(GENERATION)?,
        };
        shadow.control.publish(GENERATION, generation)?;
        shadow.room.own.set(0, ROOM, 0)?;
        Ok(Self { shadow, generation })
    }

    /// Judges the next packet. Rate limits are never used up: all packets come in an instant here.
    pub fn judge(&mut self, place: Place, frame: &[u8]) -> Result<Judged, JudgeError> {
        let shadow = &mut self.shadow;
        let judgement = shadow.run(place, frame)?;
        let limits = shadow.limits_of(self.generation, judgement)?;
        let rule = judgement.decision.rule;
        if limits.interval != 0 {
            shadow.rates.own.set(rule.into(), 0, 0)?;
        }
        if limits.source_interval != 0 {
            for bucket in source_buckets(rule.into(), frame) {
                shadow.source_rates.own.set(bucket, 0, 0)?;
            }
        }
        let reason: Reason = judgement.decision.reason;
        Ok(Judged {
            reason,
            rule,
            slot: judgement.slot,
            passes: reason.passes() || !judgement.enforced,
            monitored: !reason.passes() && !judgement.enforced,
            flow: None,
        })
    }
}
