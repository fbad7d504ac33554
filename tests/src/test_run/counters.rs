//! Which counter a packet moved: the difference between two readings.
//! Owns the rule that a packet moves one reason by one packet and its bytes, and nothing else.

use filter_common::reason::{REASON_SLOTS, Reason};

/// Words of an interface's counters on one CPU: packets and bytes of each reason, twice.
const INTERFACE_WORDS: usize = REASON_SLOTS * 2 * 2;

/// Words compared at once: a whole reading is equal but for one place.
const STRIDE: usize = 32;

/// The one counter that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Its number: every two words are one.
    pub counter: usize,
    /// By how many packets.
    pub packets: u64,
    /// By how many bytes.
    pub bytes: u64,
}

/// The counter that moved between two readings; `None` if none did.
///
/// # Errors
/// When more than one moved.
pub fn moved(before: &[u64], after: &[u64]) -> Result<Option<Moved>, String> {
    let differs = |from: usize| {
        let start = before[from..]
            .chunks(STRIDE)
            .zip(after[from..].chunks(STRIDE))
            .position(|(a, b)| a != b)?;
        let start = from + start * STRIDE;
        let inside = before[start..]
            .iter()
            .zip(&after[start..])
            .position(|(a, b)| a != b)?;
        Some(start + inside)
    };
    let Some(first) = differs(0) else {
        return Ok(None);
    };
    let counter = first / 2;
    if let Some(second) = differs(counter * 2 + 2) {
        return Err(format!("counters {counter} and {} moved", second / 2));
    }
    let word = |index: usize| after[index].wrapping_sub(before[index]);
    Ok(Some(Moved {
        counter,
        packets: word(counter * 2),
        bytes: word(counter * 2 + 1),
    }))
}

/// The reason that one packet of `length` bytes moved on `cpu`, and whether as `would_drop`.
///
/// # Errors
/// Unless exactly one reason's counter moved by exactly that.
pub fn reason(
    before: &[u64],
    after: &[u64],
    cpu: usize,
    length: usize,
) -> Result<(Reason, bool), String> {
    let Some(moved) = moved(before, after)? else {
        return Err("no reason was counted".into());
    };
    let (on, counter) = (
        moved.counter * 2 / INTERFACE_WORDS,
        moved.counter % (INTERFACE_WORDS / 2),
    );
    if on != cpu {
        return Err(format!("counted on CPU {on}, but run on {cpu}"));
    }
    if (moved.packets, moved.bytes) != (1, length as u64) {
        return Err(format!(
            "counter {counter} moved by {} packets and {} bytes, for one packet of {length} bytes",
            moved.packets, moved.bytes
        ));
    }
    match Reason::from_index(counter % REASON_SLOTS) {
        Some(reason) => Ok((reason, counter >= REASON_SLOTS)),
        None => Err(format!("counter {counter} stands for no reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_moves_one_reason() {
        let before = vec![7_u64; INTERFACE_WORDS * 2];
        let with = |changes: &[(usize, u64)]| {
            let mut after = before.clone();
            for (index, by) in changes {
                after[*index] += by;
            }
            reason(&before, &after, 1, 60)
        };
        let second = INTERFACE_WORDS;
        assert_eq!(
            with(&[(second, 1), (second + 1, 60)]),
            Ok((Reason::PassRule, false))
        );
        let monitored = second + REASON_SLOTS * 2 + Reason::DropPort as usize * 2;
        assert_eq!(
            with(&[(monitored, 1), (monitored + 1, 60)]),
            Ok((Reason::DropPort, true))
        );
        for wrong in [
            &[][..],
            &[(second, 1)],
            &[(second, 2), (second + 1, 60)],
            &[(second, 1), (second + 1, 59)],
            &[(0, 1), (1, 60)],
            &[(second, 1), (second + 1, 60), (second + 2, 1)],
            &[(second + 31 * 2, 1), (second + 31 * 2 + 1, 60)],
        ] {
            assert!(with(wrong).is_err(), "{wrong:?}");
        }
    }
}
